"""Options as the user gave them: words of a command line, or keys of a TOML file.

The command line is split here and nowhere else. argparse would expand abbreviations and
cannot distinguish ``--loss NAME`` from ``--loss.beta VALUE``; it gets a command's own flags.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlcore.errors import ConfigError, UnknownNameError
from mlcore.options.config import COMPONENTS, ENGINE

SECTIONS = (*COMPONENTS, *ENGINE)
CONFIG = "config"
"""The option that names a TOML file."""
SEED = "seed"
"""The option without a section that every run has."""


@dataclass(frozen=True, kw_only=True)
class RawOption:
    """One option, neither known to exist nor typed yet.

    Attributes:
        section: "loss", "sampling", ...; empty for ``seed`` and ``config``.
        option: Name within the section; ``name`` chooses the section's component.
        value: A TOML value; or the text of the command line, None where there is none.
        file: The TOML file, or None for the command line and for Python.
    """

    section: str
    option: str
    value: Any
    file: Path | None = None

    @property
    def key(self) -> str:
        """Section and option as one dotted word."""
        return f"{self.section}.{self.option}" if self.section else self.option

    @property
    def chooses(self) -> bool:
        """Whether this names a component."""
        return self.option == "name" and self.section in COMPONENTS

    @property
    def label(self) -> str:
        """What to call it in a message."""
        if self.file is None:
            return f"--{self.section}" if self.chooses else f"--{self.key}"
        return f"{self.file}: {f'[{self.section}] ' if self.section else ''}{self.option}"


def split_argv(
    argv: Sequence[str], command_flags: Collection[str] = ()
) -> tuple[list[str], list[RawOption]]:
    """Split a command line into the command's own words and the options of a run.

    An option of a run takes the next word as its value, unless that starts with ``--``. All
    other words belong to the command: those that stand alone, and the values of its own flags.

    Args:
        argv: The words after the command.
        command_flags: The command's own flags, with their dashes.
    """
    own: list[str] = []
    options: list[RawOption] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        flag, has_value, value = word.partition("=")
        if not flag.startswith("--") or flag == "--" or flag in command_flags:
            own.append(word)
        elif has_value:
            options.append(command_line_option(flag, value))
        elif words and not words[0].startswith("--"):
            options.append(command_line_option(flag, words.pop(0)))
        else:
            options.append(command_line_option(flag))
    return own, options


def command_line_option(flag: str, value: str | None = None) -> RawOption:
    """Return the option that a flag of the command line sets."""
    key = flag.removeprefix("--")
    if key in COMPONENTS:
        return RawOption(section=key, option="name", value=value)
    section, _, option = key.partition(".") if "." in key else ("", "", key)
    return RawOption(section=section, option=option, value=value)


def python_options(options: Mapping[str, Any]) -> list[RawOption]:
    """Return the options that Python arguments set.

    ``loss="triplet"`` chooses, ``loss={"name": "triplet", "margin": 0.2}`` has a section's
    options as a TOML file has them, ``{"loss.margin": 0.2}`` one of them as the command line
    does. ``dataset=[{...}, {...}]`` are several data sets, as in ``[[dataset]]``. A text is
    read as on the command line, None is "none", any other value as in TOML.

    Raises:
        ConfigError: A value has a type that no option has.
    """
    found: list[RawOption] = []
    for key, value in options.items():
        if key == "dataset" and isinstance(value, list | tuple):
            found += _numbered(value)
        elif isinstance(value, Mapping):
            # Like "name" in a TOML section; a component's own options follow its name.
            found += [
                RawOption(section=key, option=option, value=_plain(item, f"{key}.{option}"))
                for option, item in value.items()
            ]
        else:
            given = command_line_option(f"--{key}")
            found.append(replace(given, value=_plain(value, key)))
    return found


def _plain(value: Any, key: str) -> Any:
    """Return a Python value as TOML holds it."""
    if value is None:
        return "none"
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, list | tuple):
        return [_plain(item, key) for item in value]
    if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0:
        return value.item()
    if isinstance(value, bool | int | float | str):
        return value
    raise ConfigError(f"{key}={value!r} is a {type(value).__name__}, which no option takes")


def read_argv(argv: Sequence[str]) -> list[RawOption]:
    """Return the options of a command line that holds nothing else.

    Raises:
        ConfigError: A word is neither an option nor a value.
    """
    strays, options = split_argv(argv)
    for word in strays:
        raise ConfigError(f"unexpected argument {word!r}; options start with --")
    return options


def with_files(options: Sequence[RawOption]) -> list[RawOption]:
    """Return the options in order of precedence: those of ``--config`` files come first.

    Raises:
        ConfigError: As for :func:`read_toml`, or ``--config`` has no value.
    """
    given: list[RawOption] = []
    for item in options:
        if item.key == CONFIG:
            if not item.value:
                raise ConfigError("--config needs the path of a TOML file")
            given += read_toml(Path(item.value))
    return given + [item for item in options if item.key != CONFIG]


def read_toml(file: Path) -> list[RawOption]:
    """Read a configuration file.

    Raises:
        ConfigError: It cannot be read, is not valid TOML (the message has the line), or has
            a section that does not exist.
    """
    try:
        return read_text(file.read_text(encoding="utf-8"), file)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not valid TOML: it is not UTF-8 text") from error
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error


def read_text(text: str, file: Path) -> list[RawOption]:
    """Read the content of a configuration file.

    Raises:
        ConfigError: As for :func:`read_toml`, which names ``file`` too.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from error
    except RecursionError:
        raise ConfigError(f"{file} is nested too deeply for a configuration") from None
    options: list[RawOption] = []
    for section, value in document.items():
        if section == "seed":
            options.append(RawOption(section="", option="seed", value=value, file=file))
        elif section not in SECTIONS:
            what = "section" if isinstance(value, dict) else "key"
            raise UnknownNameError(f"{what} in {file}", section, ["seed", *SECTIONS])
        elif section == "dataset" and isinstance(value, list):
            options += _numbered(value, file)
        elif not isinstance(value, dict):
            raise ConfigError(
                f"{file}: {section!r} must be a section [{section}], got {value!r}"
            )
        else:
            options += [
                RawOption(section=section, option=option, value=item, file=file)
                for option, item in value.items()
            ]
    return options


def _numbered(tables: Sequence[Any], file: Path | None = None) -> list[RawOption]:
    """Return the options of ``[[dataset]]`` tables: ``2.root`` is an option of the second.

    Args:
        tables: One per data set, with its name and options.
        file: The file that they are in, or None for Python.
    """
    names: list[str] = []
    options: list[RawOption] = []
    where = "dataset=[...]" if file is None else f"{file}: [[dataset]]"
    for number, table in enumerate(tables, start=1):
        if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
            raise ConfigError(
                f"{where} number {number} must be a table with the name of a data set, got "
                f"{table!r}"
            )
        names.append(table["name"])
        options += [
            RawOption(
                section="dataset",
                option=f"{number}.{option}",
                value=_plain(value, f"dataset.{number}.{option}") if file is None else value,
                file=file,
            )
            for option, value in table.items()
            if option != "name"
        ]
    chosen = RawOption(section="dataset", option="name", value=",".join(names), file=file)
    return [chosen, *options]
