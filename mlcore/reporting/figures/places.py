"""Colours of places: the difference of two colours is about proportional to the distance.

A square of the map becomes a square in the plane of constant lightness of OKLab (Ottosson,
A perceptual color space for image processing, 2020), in which equal distances look about
equally different. Both axes have one scale: a metre is the same step east as north.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlcore.reporting.figures.canvas import save_figure
from mlcore.reporting.figures.positions import axis_names, side_by_side

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mlcore.evaluation.projection import Projection
    from mlcore.protocols import Split

_LIGHTNESS = 0.74
_HALF_SIDE = 0.078
"""Half side of the largest square about grey that sRGB shows at this lightness, or less."""

_TO_LMS = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_TO_LINEAR_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


class Extent(NamedTuple):
    """The square of the map that is coloured.

    Attributes:
        centre_m: ``(2,)`` easting and northing.
        half_side_m: Half its side.
    """

    centre_m: NDArray[np.float64]
    half_side_m: float


def extent_of(positions_m: NDArray[np.float64]) -> Extent:
    """Return the smallest square about positions ``(N, 2 or 3)``, at least 2 m wide."""
    plane = positions_m[:, :2]
    low, high = plane.min(axis=0), plane.max(axis=0)
    return Extent((low + high) / 2, max(1.0, float((high - low).max()) / 2))


def place_colours(positions_m: NDArray[np.float64], extent: Extent) -> NDArray[np.float64]:
    """Return sRGB ``(N, 3)`` in [0, 1] of positions ``(N, 2 or 3)``, clamped to the square."""
    scaled = (positions_m[:, :2] - extent.centre_m) / extent.half_side_m
    chroma = _HALF_SIDE * np.clip(scaled, -1.0, 1.0)
    lab = np.concatenate([np.full((len(chroma), 1), _LIGHTNESS), chroma], axis=1)
    linear = np.clip((lab @ _TO_LMS.T) ** 3 @ _TO_LINEAR_RGB.T, 0.0, 1.0)
    encoded = 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055  # IEC 61966-2-1
    colours: NDArray[np.float64] = np.where(linear <= 0.0031308, 12.92 * linear, encoded)
    return colours


def save_place_figure(
    split: Split, projections: Sequence[tuple[str, Projection]], path: Path, *, title: str = ""
) -> None:
    """Draw the coloured map, and query embeddings in the colours of their places, to a PNG.

    Args:
        split: Where images were taken; the map shows references small and queries large.
        projections: Name of each model and the projection of its query embeddings.
        path: The file to write.
        title: Title of the picture.
    """
    figure = place_figure(split, projections, title=title)
    save_figure(figure, path)


def place_figure(
    split: Split, projections: Sequence[tuple[str, Projection]], *, title: str = ""
) -> Figure:
    """Return the figure that :func:`save_place_figure` writes; no window is opened."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    num_panels = 1 + len(projections)
    num_columns = min(num_panels, 3 if num_panels % 4 else 4)
    num_rows = -(-num_panels // num_columns)
    figure = Figure(figsize=(4.2 * num_columns, 4.7 * num_rows), layout="compressed")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(num_rows, num_columns, squeeze=False).flat)
    for panel in panels[num_panels:]:
        panel.set_visible(False)
    if title:
        figure.suptitle(title, fontweight="bold", parse_math=False)
    references_m, queries_m = side_by_side(split.references, split.queries)
    extent = extent_of(np.concatenate([references_m, queries_m]))
    _draw_map(panels[0], references_m, queries_m, extent)
    colours = place_colours(queries_m, extent)
    for panel, (name, found) in zip(panels[1:], projections, strict=False):
        _draw_projection(panel, name, found, colours)
    return figure


def _draw_map(
    panel: Axes,
    references_m: NDArray[np.float64],
    queries_m: NDArray[np.float64],
    extent: Extent,
) -> None:
    corner_m = extent.centre_m - extent.half_side_m
    steps = corner_m[:, None] + 2 * extent.half_side_m * (np.arange(128) + 0.5) / 128
    grid = np.stack(np.meshgrid(steps[0], steps[1]), axis=-1)
    field = place_colours(grid.reshape(-1, 2), extent).reshape(128, 128, 3)
    side_m = 2 * extent.half_side_m
    panel.imshow(field, extent=(0, side_m, 0, side_m), origin="lower", interpolation="bilinear")
    references, queries = references_m - corner_m, queries_m - corner_m
    panel.scatter(
        references[:, 0], references[:, 1], s=5, c="#333333", lw=0, label="references"
    )
    panel.scatter(
        queries[:, 0],
        queries[:, 1],
        s=9,
        facecolors="none",
        edgecolors="white",
        lw=0.6,
        label="queries",
    )
    panel.set_title("colour of a place", fontsize="medium")
    x_name, y_name = axis_names(references_m)
    panel.set_xlabel(f"{x_name} - {corner_m[0]:.0f} (m)", fontsize="small")
    panel.set_ylabel(f"{y_name} - {corner_m[1]:.0f} (m)", fontsize="small")
    panel.legend(loc="lower right", fontsize="small", framealpha=0.8, facecolor="0.6")


def _draw_projection(
    panel: Axes, name: str, found: Projection, colours: NDArray[np.float64]
) -> None:
    size = float(np.clip(4000 / len(colours), 3, 20))
    panel.scatter(found.points[:, 0], found.points[:, 1], s=size, c=colours, lw=0)
    panel.set_title(f"{name}, {found.method}", fontsize="medium", parse_math=False)
    panel.set_xlabel(f"{len(colours)} query embeddings; axes have no unit", fontsize="small")
    panel.set(xticks=[], yticks=[], aspect="equal", box_aspect=1)
    panel.set_adjustable("datalim")
