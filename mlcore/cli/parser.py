"""The parser of a command's own flags: argparse with helpful errors."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from mlcore.cli.main import HelpShown
from mlcore.errors import ConfigError
from mlcore.options import Command, RawOption, split_argv, unknown_option

WRITTEN = ("out", "map", "picture", "predictions")
"""Options of all commands that name what they write."""


@dataclass(frozen=True)
class NoOptions:
    """Options of a part that has none."""


class Parser(argparse.ArgumentParser):
    """An argparse parser without abbreviations that raises instead of exiting.

    Args:
        command: Name of the command, without "mlcore".
        summary: What it does.
        takes_run_options: Whether options of a run, such as ``--loss.beta``, may follow; read
            them with :meth:`parse_with_run_options`.
        evaluation: The options of ``[evaluation]`` that the command uses; None: all of them.
        settings: Further arguments of argparse's parser.

    Attributes:
        words: By argument, a function that returns what shells offer for it where it has no
            ``choices``.

    Raises:
        ConfigError: From the parse methods, for what the user got wrong; a misspelt flag
            comes with the nearest that exists.
    """

    def __init__(
        self,
        command: str,
        summary: str,
        *,
        takes_run_options: bool = False,
        evaluation: Sequence[str] | None = None,
        **settings: Any,
    ) -> None:
        self.takes_run_options = takes_run_options
        self.evaluation = evaluation
        self.words: dict[str, Callable[[], Iterable[str]]] = {}
        super().__init__(
            prog=f"mlcore {command}", description=summary, allow_abbrev=False, **settings
        )

    @property
    def command(self) -> Command:
        """The command as the readers of options name it in messages."""
        return Command(self.prog, self.flags(), self.evaluation)

    def flags(self) -> list[str]:
        """Return every flag of the command, with its dashes."""
        return [name for action in self._actions for name in action.option_strings]

    def actions(self) -> list[argparse.Action]:
        """Return the command's arguments, for completion and documentation."""
        return list(self._actions)

    def add_block_option(self) -> None:
        """Add ``--block NAME`` for :meth:`mlcore.registry.discovery.Registry.discover`."""
        self.add_argument(
            "--block", action="append", default=[], metavar="NAME", help="do not load a plugin"
        )

    def add_json_option(self) -> None:
        """Add ``--json``."""
        self.add_argument(
            "--json", action="store_true", help="print the result as JSON on stdout"
        )

    def parse_command(
        self, argv: Sequence[str], typed: Sequence[str] = ()
    ) -> argparse.Namespace:
        """Return the values of the command's flags and arguments; others are refused.

        Args:
            argv: The words for the command itself.
            typed: All words of the command line, for the message.
        """
        found, unknown = self.parse_known_args(argv)
        for name in WRITTEN:
            _require_text(f"--{name}", getattr(found, name, None))
        for word in unknown:
            flag = word.partition("=")[0]
            if flag.startswith("-"):
                raise unknown_option(flag, self.flags(), self.prog)
            raise ConfigError(
                f"{self.prog}: unexpected argument {word!r}{_one_value(word, typed or argv)}"
            )
        return found

    def parse_with_run_options(
        self, argv: Sequence[str]
    ) -> tuple[argparse.Namespace, list[RawOption]]:
        """Return the values of the command's own flags, and the options of a run."""
        own, options = split_argv(argv, self.flags())
        return self.parse_command(own, argv), options

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Raise :class:`HelpShown`: argparse calls this after printing help."""
        raise HelpShown

    def error(self, message: str) -> NoReturn:
        """Raise the message that argparse would print before it exits."""
        raise ConfigError(f"{self.prog}: {message}; see '{self.prog} --help'")


def _require_text(flag: str, path: object) -> None:
    """Check, before any work, that a path can be written into the files that name it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"{flag} {str(path)!r} is not UTF-8 text; choose another name"
        ) from None


def _one_value(stray: str, words: Sequence[str]) -> str:
    """Return what may be wrong with a word that follows the value of an option."""
    at = words.index(stray)
    flag, value = (words[at - 2], words[at - 1]) if at >= 2 else ("", "")
    if not flag.startswith("--") or "=" in flag or value.startswith("--"):
        return ""
    return f"; {flag} takes one word: separate several values by commas"
