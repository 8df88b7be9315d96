"""Results and progress in Jupyter notebooks; imports neither torch nor IPython by itself."""

from __future__ import annotations

import base64
import html
import sys
import time
from abc import ABC, abstractmethod
from io import StringIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

_SECONDS_BETWEEN_UPDATES = 0.2
_WIDTH = 160
"""Columns of a table; notebooks scroll what is wider than their page."""
_CODE = '<pre style="line-height: normal; overflow-x: auto">{code}</pre>'


class Result(ABC):
    """A result with a text for programs and a picture for notebooks."""

    @abstractmethod
    def table(self) -> list[dict[str, Any]]:
        """Return the result as records, one per row: ``pandas.DataFrame(result.table())``."""

    @abstractmethod
    def view(self) -> RenderableType:
        """Return the tables that the command line shows."""

    def picture(self) -> bytes:
        """Return a PNG that is shown below the tables; empty for none."""
        return b""

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(file=StringIO(), width=_WIDTH, markup=False, highlight=False)
        with console.capture() as drawn:
            console.print(self.view())
        return drawn.get()

    def _repr_html_(self) -> str:
        from rich.console import Console

        console = Console(
            file=StringIO(), width=_WIDTH, markup=False, highlight=False, record=True
        )
        console.print(self.view())
        shown = console.export_html(inline_styles=True, code_format=_CODE)
        png = self.picture()
        if png:
            data = base64.b64encode(png).decode()
            shown += f'<img style="max-width: 100%" src="data:image/png;base64,{data}">'
        return shown


def in_notebook() -> bool:
    """Return whether output goes to a notebook's cell rather than to a terminal."""
    shell = sys.modules.get("IPython")
    if shell is None:
        return False
    running = shell.get_ipython()
    return running is not None and hasattr(running, "kernel")


class NotebookBars:
    """Progress in a notebook: one bar for each description, updated in place."""

    def __init__(self) -> None:
        self._shown: dict[str, tuple[Any, float]] = {}

    def __call__(self, description: str, done: int, total: int, detail: str = "") -> None:
        """Draw ``done`` of ``total``."""
        from IPython.display import HTML, display

        now = time.monotonic()
        handle, last = self._shown.get(description, (None, 0.0))
        if handle is not None and done != total and now - last < _SECONDS_BETWEEN_UPDATES:
            return
        words = html.escape(f"{description}: {done} of {total} {detail}".rstrip())
        bar: Any = HTML(  # type: ignore[no-untyped-call]
            f'<progress value="{done}" max="{max(total, 1)}"></progress> {words}'
        )
        if handle is None:
            handle = display(bar, display_id=True)  # type: ignore[no-untyped-call]
        else:
            handle.update(bar)
        self._shown[description] = handle, now
