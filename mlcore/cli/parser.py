"""The parser of commands other than ``train``: argparse with errors that help."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from mlcore.errors import ConfigError, UnknownNameError


class Parser(argparse.ArgumentParser):
    """An argparse parser without abbreviations that raises instead of exiting.

    Raises:
        ConfigError: From ``parse_args``, for what the user got wrong; a misspelt option
            comes with the nearest that exists.
    """

    def __init__(self, command: str, summary: str, **settings: Any) -> None:
        super().__init__(
            prog=f"mlcore {command}", description=summary, allow_abbrev=False, **settings
        )

    def add_block_option(self) -> None:
        """Add ``--block NAME`` for :meth:`mlcore.registry.discovery.Registry.discover`."""
        self.add_argument(
            "--block", action="append", default=[], metavar="NAME", help="leave a plugin out"
        )

    def parse_command(self, argv: Sequence[str]) -> argparse.Namespace:
        """Return the options of ``argv``, all of which must exist."""
        options, unknown = self.parse_known_args(argv)
        for word in unknown:
            name = word.partition("=")[0]
            if name.startswith("-"):
                raise UnknownNameError("option", name, self.option_names())
            raise ConfigError(f"{self.prog}: unexpected argument {word!r}")
        return options

    def option_names(self) -> list[str]:
        """Return every option there is, with its dashes."""
        return [name for action in self._actions for name in action.option_strings]

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print before it exits."""
        raise ConfigError(f"{self.prog}: {message}; see {self.prog} --help")
