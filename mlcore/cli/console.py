"""What every command prints with: results to stdout, all else to stderr.

So ``mlcore ... --json | jq`` works while a progress bar runs. rich is imported when
something is printed, not before.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import TaskID
    from rich.table import Table

    from mlcore.protocols import Progress

_PIPE_WIDTH = 300
"""Columns where there is no terminal: a table in a file is not to be cut at 80."""

_SECONDS_BETWEEN_LINES = 10.0


def write(text: str) -> None:
    """Write a line (or lines) of a result to stdout, exactly as it is."""
    sys.stdout.write(text.rstrip("\n") + "\n")


def write_json(value: Any) -> None:
    """Write a result for a script to stdout."""
    write(json.dumps(value, indent=2))


def show(result: RenderableType) -> None:
    """Write a table or another thing that rich draws to stdout."""
    sys.stdout.write(_drawn(result, _console(sys.stdout)))


def as_text(result: RenderableType) -> str:
    """Return a table as plain text, for a file."""
    from io import StringIO

    return _drawn(result, _console(StringIO()))


def say(message: str) -> None:
    """Tell the user something that is not the result, on stderr."""
    sys.stderr.write(message + "\n")


def notes(messages: Sequence[str]) -> None:
    """Tell the user what a data set found or left out, on stderr."""
    for message in messages:
        say(f"note: {message}")


def table(*columns: str, title: str | None = None) -> Table:
    """Return an empty table; a column whose name ends in "#" is of numbers."""
    from rich import box
    from rich.table import Table

    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        name = column.removesuffix("#")
        made.add_column(name, justify="right" if name != column else "left", overflow="fold")
    return made


@contextmanager
def progress() -> Iterator[Progress]:
    """Give a :class:`mlcore.protocols.Progress` that is live while the block runs.

    A bar for each description on a terminal; elsewhere a line now and then.
    """
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[detail]}"),
    )
    with Bars(*columns, console=_console(sys.stderr)) as bars:
        tasks: dict[str, TaskID] = {}

        def report(description: str, done: int, total: int, detail: str = "") -> None:
            if description not in tasks:
                tasks[description] = bars.add_task(description, total=total, detail="")
            bars.update(tasks[description], completed=done, total=total, detail=detail)

        yield report


class _Lines:
    """Progress where no bar can be drawn: at the start, now and then, and at the end."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def __call__(self, description: str, done: int, total: int, detail: str = "") -> None:
        now = time.monotonic()
        last = self._last.get(description)
        if last is None or done == total or now - last >= _SECONDS_BETWEEN_LINES:
            self._last[description] = now
            say(f"{description}: {done} of {total} {detail}".rstrip())


def _drawn(result: RenderableType, console: Console) -> str:
    with console.capture() as drawn:  # rich would exit by itself where the pipe is closed
        console.print(result, markup=False, highlight=False)
    return drawn.get()


def _console(file: IO[str]) -> Console:
    from rich.console import Console

    return Console(file=file, width=None if file.isatty() else _PIPE_WIDTH)
