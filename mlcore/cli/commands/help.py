"""``mlcore help [COMMAND ...]``: the help of mlcore or of a command."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from mlcore.cli import console, main
from mlcore.cli.parser import Parser


def make_parser() -> Parser:
    """Return the parser of the command's own flags."""
    parser = Parser("help", "Show the help of a command; the same as 'mlcore COMMAND --help'.")
    parser.add_argument(
        "words", metavar="COMMAND", nargs="*", help=f"one of {', '.join(main.COMMANDS)}"
    )
    parser.words["words"] = lambda: main.COMMANDS
    parser.add_json_option()
    return parser


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    options = make_parser().parse_command(argv)
    words = [*options.words, "--help"]
    if not options.json:
        return main.dispatch(words)
    with console.captured() as shown, suppress(main.HelpShown):
        main.dispatch(words)
    found = {"command": " ".join(options.words), "help": shown.getvalue()}
    console.write_json(found if options.words else {**found, "commands": main.COMMANDS})
    return 0
