"""Pictures of queries beside the references they were matched with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from mlcore.evaluation.measures import metres
from mlcore.reporting.figures.canvas import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

    from mlcore.retrieval.localization import Match, QueryImage

CORRECT_WITHIN_M = 10.0
_MOST_MATCHES = 5
RIGHT, WRONG, _UNKNOWN = "#007A5A", "#B8000F", "#333333"


def save_matches(
    path: Path,
    asked: Sequence[QueryImage],
    images: Sequence[Tensor],
    found: Sequence[Sequence[Match]],
    load_image: Callable[[int], Tensor],
) -> None:
    """Write a PNG with one row per query: the query, then up to five references.

    The distance in metres, if known, is green within 10 m and red beyond.

    Args:
        path: The file to write.
        asked: The queries.
        images: Their pixels, uint8 ``(3, H, W)`` each.
        found: The matches of each query.
        load_image: Returns the pixels of a reference, given its index.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    num_matches = min(_MOST_MATCHES, len(found[0]))
    _, height, width = images[0].shape
    panel_width = 2.6
    panel_height = panel_width * height / width + 0.55
    figure = Figure(
        figsize=(panel_width * (1 + num_matches), panel_height * len(asked)),
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(asked), 1 + num_matches, squeeze=False)
    for panels, one, image, matches in zip(grid, asked, images, found, strict=True):
        _show(panels[0], image, f"query: {PurePath(one.name).name}", _UNKNOWN)
        for rank, (panel, match) in enumerate(zip(panels[1:], matches, strict=False), start=1):
            _show(panel, load_image(match.index), _caption(rank, match), _colour(match))
    save_figure(figure, path)


def _show(panel: Axes, image: Tensor, caption: str, colour: str) -> None:
    panel.imshow(image.permute(1, 2, 0).numpy())
    # Names of files are text: a dollar sign in one starts no formula.
    panel.set_title(caption, fontsize="small", color=colour, parse_math=False)
    panel.set_xticks([])
    panel.set_yticks([])
    for spine in panel.spines.values():
        spine.set_color(colour)
        spine.set_linewidth(2.0)


def _caption(rank: int, match: Match) -> str:
    away = "" if match.distance_m is None else f"{metres(match.distance_m)}, "
    return f"{rank}. {away}embedding {match.embedding_distance:.2f}"


def _colour(match: Match) -> str:
    if match.distance_m is None:
        return _UNKNOWN
    return RIGHT if match.distance_m < CORRECT_WITHIN_M else WRONG
