r"""Output of every command: results to stdout, everything else to stderr.

So ``mlcore ... --json | jq`` works while a progress bar runs. Names come from files that may be
malicious: control characters in them are shown as ``\x1b`` and never sent to the terminal. rich
is imported only when a table or a bar is drawn.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from io import StringIO
from typing import IO, TYPE_CHECKING, Any

from mlcore.reporting.notebook import NotebookBars, in_notebook

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console, RenderableType
    from rich.progress import TaskID
    from rich.table import Table

    from mlcore.protocols import Progress

_PIPE_WIDTH = 300
"""Width without a terminal: a table written to a file must not be cut at 80 columns."""

_SECONDS_BETWEEN_LINES = 10.0

_RESULTS: ContextVar[IO[str] | None] = ContextVar("_RESULTS", default=None)
"""Where results go while ``sys.stdout`` is redirected."""


def write(text: str) -> None:
    """Write a line (or lines) of a result to stdout."""
    (_RESULTS.get() or sys.stdout).write(printable(text.rstrip("\n")) + "\n")


def flush_results() -> None:
    """Send on what was written, so that an error in doing so is not lost at exit."""
    (_RESULTS.get() or sys.stdout).flush()


@contextmanager
def json_alone(*, as_json: bool) -> Iterator[None]:
    """With ``--json``, send what plugins and libraries print to stderr while the block runs.

    What :func:`write` writes is then all that reaches stdout, and a script can read it.
    """
    if not as_json:
        yield
        return
    token = _RESULTS.set(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _RESULTS.reset(token)


@contextmanager
def captured() -> Iterator[StringIO]:
    """Yield a stream that receives what is written to stdout while the block runs."""
    stream = StringIO()
    token = _RESULTS.set(stream)
    try:
        with redirect_stdout(stream):
            yield stream
    finally:
        _RESULTS.reset(token)


def write_json(value: Any) -> None:
    """Write a result for a script to stdout."""
    write(json.dumps(value, indent=2))


def written(paths: Sequence[Path], *, as_json: bool) -> None:
    """Report the files that a command has written: on stderr, or as JSON on stdout."""
    if as_json:
        write_json({"written": [str(path) for path in paths]})
    for path in paths:
        say(f"Written: {path}")


def show(result: RenderableType) -> None:
    """Write a table or another rich renderable to stdout."""
    sys.stdout.write(_drawn(result, _console(sys.stdout)))


def as_text(result: RenderableType) -> str:
    """Return a table as plain text, for a file."""
    return _drawn(result, _console(StringIO()))


def say(message: str) -> None:
    """Write a message, which is not part of the result, to stderr."""
    sys.stderr.write(printable(message) + "\n")


def notes(messages: Sequence[str]) -> None:
    """Write the notes of a data set to stderr."""
    for message in messages:
        say(f"note: {message}")


def is_wide() -> bool:
    """Return whether the terminal is wide enough for details in a table."""
    return not sys.stdout.isatty() or shutil.get_terminal_size().columns >= 100


def printable(text: str) -> str:
    """Return the text with control characters escaped, which could control the terminal.

    Marks that reverse the direction of writing are escaped too: they can hide a file's real
    suffix.
    """
    return "".join(
        repr(char)[1:-1] if _is_control(char) and char not in "\n\t" else char for char in text
    )


def _is_control(char: str) -> bool:
    code = ord(char)
    return (
        code < 32 or 127 <= code < 160 or 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069
    )


def table(*columns: str, title: str | None = None) -> Table:
    """Return an empty table.

    Args:
        columns: Their names; one that ends in "#" is of numbers, one that ends in "!" is of
            names that are never broken into two lines.
        title: Line above the table.
    """
    from rich import box
    from rich.table import Table

    class EscapedTable(Table):
        """A table that escapes control characters in its cells."""

        def add_row(self, *cells: Any, **settings: Any) -> None:
            shown = [printable(cell) if isinstance(cell, str) else cell for cell in cells]
            super().add_row(*shown, **settings)

    empty = EscapedTable(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        name = column.rstrip("#!")
        empty.add_column(
            name,
            justify="right" if column.endswith("#") else "left",
            overflow="fold",
            no_wrap=column.endswith("!"),
        )
    return empty


@contextmanager
def progress() -> Iterator[Progress]:
    """Yield a :class:`mlcore.protocols.Progress` to call from the block.

    On a terminal it draws a bar for each description, and so it does in a notebook; elsewhere
    it occasionally writes a line.
    """
    if in_notebook():
        yield NotebookBars()
        return
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[detail]}", markup=False),
    )
    with Bars(*columns, console=_console(sys.stderr)) as bars:
        tasks: dict[str, TaskID] = {}

        def report(description: str, done: int, total: int, detail: str = "") -> None:
            if description not in tasks:
                shown = printable(description)
                tasks[description] = bars.add_task(shown, total=total, detail="")
            bars.update(
                tasks[description], completed=done, total=total, detail=printable(detail)
            )

        yield report


class _Lines:
    """Progress without a terminal: lines at the start, at intervals and at the end."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def __call__(self, description: str, done: int, total: int, detail: str = "") -> None:
        now = time.monotonic()
        last = self._last.get(description)
        if last is None or done == total or now - last >= _SECONDS_BETWEEN_LINES:
            self._last[description] = now
            say(f"{description}: {done} of {total} {detail}".rstrip())


def _drawn(result: RenderableType, console: Console) -> str:
    with console.capture() as drawn:  # rich exits by itself if the pipe is closed
        console.print(result)
    return drawn.get()


def _console(file: IO[str]) -> Console:
    from rich.console import Console

    width = None if file.isatty() else _PIPE_WIDTH
    return Console(file=file, width=width, markup=False, emoji=False, highlight=False)
