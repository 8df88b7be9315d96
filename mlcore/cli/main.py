"""The ``mlcore`` command: finds the command's module, runs it, turns errors into messages.

Only the module of the command that is called is imported, so that ``mlcore --help`` is
instant.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import FrameType

from mlcore.errors import MlcoreError, UnknownNameError

COMMANDS = {
    "train": "train a model with a loss, then evaluate it",
    "compare": "train losses on the same tuples and rank them",
    "evaluate": "evaluate a trained model, also on other data or with other options",
    "sweep": "accuracy by embedding dimension and by spacing of references",
    "tsne": "draw query embeddings in the colours of their places",
    "explain": "draw what makes a query and its match alike (Grad-CAM)",
    "movie": "film queries along a traversal beside their matches",
    "localize": "find where images were taken",
    "embed": "write embeddings and an index of images",
    "report": "write everything about a run into one HTML file",
    "reproduce": "replay the batch whose loss was not finite",
    "data": "examine, prepare or write the files of a data set",
    "list": "list losses, miners, influence functions, data sets or models",
    "plugins": "show installed plugins, what they provide and what is wrong with them",
    "new-plugin": "write a package with a loss of your own",
}
"""Each command and what it does; its module in ``mlcore.cli`` has ``run(argv)``."""

INTERRUPTED, TERMINATED, BROKEN_PIPE = 130, 143, 141
"""128 + signal number, as a shell has it."""


class Terminated(BaseException):
    """SIGTERM came; like KeyboardInterrupt, so that ``finally`` clauses run."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``mlcore`` and return its exit code.

    0; 1 the run failed; 2 a usage, configuration, data or plugin error, told in one
    message (``--traceback`` shows where); 130 Ctrl-C, 143 SIGTERM.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    show_traceback = "--traceback" in words
    words = [word for word in words if word != "--traceback"]
    try:
        with _sigterm_raises():
            code = _dispatch(words)
            sys.stdout.flush()
            return code
    except MlcoreError as error:
        return _fail(_message(error), error.exit_code, show_traceback)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED, show_traceback)
    except Terminated:
        return _fail("terminated", TERMINATED, show_traceback)
    except BrokenPipeError:
        # Whoever read the output has what they wanted; Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        return _fail(_os_message(error), 2, show_traceback)


def help_text() -> str:
    """Return what ``mlcore --help`` prints."""
    width = max(map(len, COMMANDS))
    commands = [f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [
            "usage: mlcore [--traceback] COMMAND ...",
            "",
            "Train image embeddings for localization by retrieval; losses, miners, influence",
            "functions and data sets are plugins.",
            "",
            "commands:",
            *commands,
            "",
            "options:",
            "  -h, --help   show this; 'mlcore COMMAND --help' shows a command's options",
            "  --version    show the version",
            "  --traceback  show where an error was raised",
        ]
    )


def _dispatch(words: Sequence[str]) -> int:
    command = words[0] if words else "--help"
    if command in ("-h", "--help"):
        _print(help_text())
        return 0
    if command == "--version":
        from mlcore import __version__

        _print(f"mlcore {__version__}")
        return 0
    if command not in COMMANDS:
        what = "option" if command.startswith("-") else "command"
        known = ["--help", "--version", "--traceback"] if what == "option" else COMMANDS
        raise UnknownNameError(what, command, known)
    try:
        module = import_module(f"mlcore.cli.commands.{command.replace('-', '_')}")
        code: int = module.run(words[1:])
    except SystemExit as error:  # argparse, after --help
        return error.code if isinstance(error.code, int) else 0
    return code


def _fail(message: str, code: int, show_traceback: bool) -> int:
    if show_traceback:
        import traceback

        traceback.print_exc()
    sys.stderr.write(f"mlcore: {'error: ' if code <= 2 else ''}{message}\n")
    return code


def _message(error: MlcoreError) -> str:
    """Return the message; a data-loading process of torch wraps it in a traceback."""
    text = str(error)
    if "\nOriginal Traceback" not in text:
        return text
    return text.rpartition(f"{type(error).__qualname__}: ")[2].rstrip()


def _os_message(error: OSError) -> str:
    reason = error.strerror or str(error)
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return f"{' and '.join(names)}: {reason}" if names else reason


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Turn SIGTERM into an exception in this process; training takes it over meanwhile."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process = os.getpid()

    def stop(_number: int, _frame: FrameType | None) -> None:
        if os.getpid() == process:
            raise Terminated
        os._exit(TERMINATED)  # a forked data-loading worker

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


if __name__ == "__main__":
    sys.exit(main())
