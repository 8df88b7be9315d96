"""Writes matplotlib figures to files."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from mlcore.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG.

    File and condition names may contain characters that matplotlib's font lacks. They are
    drawn as boxes, without a warning per character.
    """
    with atomic_write(path) as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(file, format="png", dpi=150)
