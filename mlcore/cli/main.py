"""The ``mlcore`` command: finds the command's module, runs it, turns errors into messages.

Only the module of the chosen command is imported, so that ``mlcore --help`` is fast.
"""

from __future__ import annotations

import atexit
import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from types import FrameType

from mlcore.cli.console import flush_results, json_alone, printable, write_json
from mlcore.errors import (
    DISK_FULL,
    ConfigError,
    MlcoreError,
    PluginError,
    Terminated,
    UnknownNameError,
)

COMMANDS = {
    "train": "train a model with a loss, then evaluate it",
    "compare": "train several losses on the same tuples and rank them",
    "evaluate": "evaluate a trained model, also on other data or options",
    "sweep": "measure accuracy by embedding dimension and reference spacing",
    "tsne": "draw query embeddings in 2D, coloured by place",
    "explain": "draw what makes a query similar to its match (Grad-CAM)",
    "movie": "film the queries of a traversal beside their matches",
    "index": "make a map of references, to localize without the run's data",
    "localize": "find where images were taken",
    "embed": "write embeddings and an index of images",
    "export": "write a model or a map for other programs",
    "report": "write the report of a run as one HTML file",
    "reproduce": "replay the batch whose loss was not finite",
    "data": "check, prepare, write or draft a data set",
    "list": "list losses, miners, influence functions, data sets, models",
    "plugins": "show installed plugins, what they provide, their errors",
    "new-plugin": "create a plugin package with a loss of your own",
    "completion": "print the completion script of a shell",
    "help": "show the help of a command",
}
"""Each command and what it does; see :func:`module_of`."""

INTERRUPTED, TERMINATED, BROKEN_PIPE = 130, 143, 141
"""Exit codes: 128 + signal number, as in a shell."""

_SECONDS_FOR_THREADS = 2.0
"""How long to wait for threads that are about to end."""

_OPEN_FILES = "Too many open files"
_CLOSED = "a plugin or library closed sys.stdout, so the result cannot be written; block it"
_EXPECTED = (MlcoreError, OSError, UnicodeEncodeError)


class HelpShown(BaseException):
    """``--help`` was printed; nothing is left to do."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``mlcore`` and return its exit code; without ``argv`` as the console script.

    0; 1 the run failed; 2 a usage, configuration, data or plugin error, reported in one
    message (``--traceback`` shows where); 130 Ctrl-C, 143 SIGTERM.
    """
    if argv is None:
        code = main(sys.argv[1:])
        _end_threads(code)
        return code
    words = list(argv)
    show_traceback = "--traceback" in words
    words = [word for word in words if word != "--traceback"]
    try:
        _prepare_streams()
        as_json = "--json" in words and not {"-h", "--help"} & set(words)
        with _sigterm_raises(), json_alone(as_json=as_json):
            code = dispatch(words)
            flush_results()
            return code
    except HelpShown:
        return 0
    except BrokenPipeError:
        # The reader closed the pipe, as head does; Python would report it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except BaseException as error:
        if isinstance(error, Exception) and not isinstance(error, _EXPECTED):
            if _OPEN_FILES in str(error):  # torch's data loading says it as RuntimeError
                error = OSError(errno.EMFILE, _OPEN_FILES)
            elif isinstance(error, ValueError) and sys.stdout.closed:
                error = PluginError(_CLOSED)
            else:
                raise
        if _OPEN_FILES in str(error):  # objects that were made by half complain when deleted
            sys.unraisablehook = lambda _: None
        message, code = _explain(error)
        if show_traceback:
            import traceback

            traceback.print_exc()
        prefix = "error: " if code <= 2 else ""
        sys.stderr.write(f"mlcore: {prefix}{printable(message)}\n")
        return code


def help_text() -> str:
    """Return what ``mlcore --help`` prints."""
    width = max(map(len, COMMANDS))
    commands = [f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [
            "usage: mlcore [--traceback] COMMAND ...",
            "",
            "Train image embeddings for visual localization. Losses, miners, influence",
            "functions and data sets are plugins.",
            "",
            "commands:",
            *commands,
            "",
            "options:",
            "  -h, --help   show this help; 'mlcore help COMMAND' shows that of a command",
            "  --version    show the version",
            "  --traceback  show where an error was raised",
        ]
    )


def dispatch(words: Sequence[str]) -> int:
    """Run the command given by the words and return its exit code."""
    command = words[0] if words else "--help"
    if command in ("-h", "--help"):
        _print(help_text())
        return 0
    if command == "--version":
        from mlcore import __version__

        if words[1:] == ["--json"]:
            write_json({"mlcore": __version__})
            return 0
        if words[1:]:
            raise ConfigError(f"mlcore --version: unexpected argument {words[1]!r}")
        _print(f"mlcore {__version__}")
        return 0
    if command not in COMMANDS:
        what = "option" if command.startswith("-") else "command"
        known = ["--help", "--version", "--traceback"] if what == "option" else COMMANDS
        raise UnknownNameError(what, command, known)
    code: int = import_module(module_of(command)).run(words[1:])
    return code


def module_of(command: str) -> str:
    """Return the module of a command, with ``make_parser()`` and ``run(argv)``."""
    return f"mlcore.cli.commands.{command.replace('-', '_')}"


def _prepare_streams() -> None:
    """Flush all output; characters that the encoding lacks are escaped."""
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - to the end
    if sys.stdout is None:
        # The next file opened would become file descriptor 1, and receive what is printed.
        sys.stdout = sys.stderr
        raise ConfigError("standard output is closed; redirect it to a file or /dev/null")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _explain(error: BaseException) -> tuple[str, int]:
    """Return the message for the user, and the exit code."""
    match error:
        case MlcoreError():
            return _message(error), error.exit_code
        case KeyboardInterrupt():
            return "interrupted", INTERRUPTED
        case Terminated():
            return "terminated", TERMINATED
        case UnicodeEncodeError():
            before, after = error.object[: error.start], error.object[error.start :]
            line = before.rpartition("\n")[2] + after.partition("\n")[0]
            return (
                f"{line!r} cannot be written as {error.encoding}; set PYTHONUTF8=1, or a "
                "locale in UTF-8 such as LC_ALL=C.UTF-8; if it is one already, rename the file"
            ), 2
        case OSError():
            return _os_message(error), 2
    # Nothing of ours exits, and a plugin must not make a command look finished.
    return (
        f"a plugin or library ended the command with {error!r}; add --traceback for details"
    ), 2


def _message(error: MlcoreError) -> str:
    """Return the message without the traceback that torch's data-loading processes add."""
    text = str(error)
    if "\nOriginal Traceback" not in text:
        return text
    return text.rpartition(f"{type(error).__qualname__}: ")[2].rstrip()


def _os_message(error: OSError) -> str:
    if error.errno in (errno.EMFILE, errno.ENFILE) or _OPEN_FILES in str(error):
        return (
            "too many open files; raise the limit, as with 'ulimit -n 4096', or use fewer "
            "processes (--training.num_workers)"
        )
    reason = error.strerror or str(error)
    if error.errno in DISK_FULL:
        reason += "; free some space, or choose another disk"
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return f"{' and '.join(names)}: {reason}" if names else reason


def _end_threads(code: int) -> None:
    """End the process although a plugin's thread goes on, which Python would wait for."""
    until = time.monotonic() + _SECONDS_FOR_THREADS
    left = [t for t in threading.enumerate() if t is not threading.main_thread()]
    left = [thread for thread in left if not thread.daemon]
    for thread in left:
        thread.join(max(0.0, until - time.monotonic()))
    names = [thread.name for thread in left if thread.is_alive()]
    if not names:
        return
    sys.stderr.write(
        f"mlcore: note: ended although threads of a plugin or library still run: "
        f"{printable(', '.join(names))}; they should be daemon threads\n"
    )
    atexit._run_exitfuncs()  # noqa: SLF001 - nothing public does it
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Turn SIGTERM into an exception in this process; training handles it itself."""
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
