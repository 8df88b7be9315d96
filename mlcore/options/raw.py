"""Options as the user gave them: from the command line or from a TOML file.

The command line is read here and not by argparse, which expands abbreviations and cannot
tell ``--loss NAME`` from ``--loss.beta VALUE``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlcore.errors import ConfigError, UnknownNameError
from mlcore.options.config import COMPONENTS, ENGINE

SECTIONS = (*COMPONENTS, *ENGINE)


@dataclass(frozen=True, kw_only=True)
class Given:
    """One option as the user gave it.

    Attributes:
        section: "loss", "sampling", ...; empty for ``seed``.
        option: Name within the section; ``name`` chooses the section's component.
        value: A TOML value; or the text of the command line, None where there is none.
        file: The TOML file, or None for the command line.
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
    def label(self) -> str:
        """What to call it in a message."""
        if self.file is None:
            return flag(self.key)
        return f"{self.file}: {_in_file(self.section, self.option)}"


def flag(key: str) -> str:
    """Return the command-line option of a key: ``--loss`` for "loss.name"."""
    section, _, option = key.rpartition(".")
    return f"--{section}" if option == "name" else f"--{key}"


def read_argv(argv: Sequence[str]) -> tuple[list[Path], list[Given]]:
    """Split a command line into the configuration files it names and its options.

    Raises:
        ConfigError: A word that is neither option nor value, or ``--config`` without one.
    """
    files: list[Path] = []
    given: list[Given] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        if not word.startswith("--") or word == "--":
            raise ConfigError(f"unexpected argument {word!r}; options start with --")
        key, has_value, value = word.removeprefix("--").partition("=")
        text: str | None = value if has_value else None
        if not has_value and words and not words[0].startswith("--"):
            text = words.pop(0)
        if key == "config":
            if not text:
                raise ConfigError("--config needs the path of a TOML file")
            files.append(Path(text))
            continue
        section, _, option = key.partition(".") if "." in key else ("", "", key)
        if key in COMPONENTS:
            section, option = key, "name"
        given.append(Given(section=section, option=option, value=text))
    return files, given


def read_toml(file: Path) -> list[Given]:
    """Read a configuration file.

    Raises:
        ConfigError: It cannot be read, is no TOML (the message has the line), or has a
            section that does not exist.
    """
    try:
        return read_text(file.read_text(encoding="utf-8"), file)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not valid TOML: it is not UTF-8 text") from error
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error


def read_text(text: str, file: Path) -> list[Given]:
    """Read the content of a configuration file.

    Raises:
        ConfigError: As for :func:`read_toml`, which names ``file`` too.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from error
    given: list[Given] = []
    for section, value in document.items():
        if section == "seed":
            given.append(Given(section="", option="seed", value=value, file=file))
        elif section not in SECTIONS:
            what = "section" if isinstance(value, dict) else "key"
            raise UnknownNameError(f"{what} in {file}", section, ["seed", *SECTIONS])
        elif not isinstance(value, dict):
            raise ConfigError(
                f"{file}: {section!r} must be a section [{section}], got {value!r}"
            )
        else:
            given += [
                Given(section=section, option=option, value=item, file=file)
                for option, item in value.items()
            ]
    return given


def _in_file(section: str, option: str) -> str:
    return f"[{section}] {option}" if section else option
