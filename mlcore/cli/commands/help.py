"""``mlcore help [COMMAND ...]``: the help of mlcore or of a command."""

from __future__ import annotations

from collections.abc import Sequence

from mlcore.cli import main
from mlcore.cli.parser import Parser


def make_parser() -> Parser:
    """Return the parser of the command's own flags."""
    parser = Parser("help", "Show the help of a command; the same as 'mlcore COMMAND --help'.")
    parser.add_argument(
        "words", metavar="COMMAND", nargs="*", help=f"one of {', '.join(main.COMMANDS)}"
    )
    parser.words["words"] = tuple(main.COMMANDS)
    return parser


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    words = make_parser().parse_command(argv).words
    return main.dispatch([*words, "--help"])
