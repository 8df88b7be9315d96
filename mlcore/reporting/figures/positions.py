"""A picture of a data set's positions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import DataError
from mlcore.protocols import PlaceDataset, PlaceTable
from mlcore.reporting.figures.canvas import save_figure
from mlcore.reporting.figures.curves import COLOURS

_SPLITS = ("train", "validation", "test")
_MOST_POINTS = 20_000
"""Most images drawn per table: more would hide each other and be slow to draw."""
_BETWEEN_REGIONS = 0.1
"""Free space between the cells of regions, as a share of a cell."""


def save_positions(dataset: PlaceDataset, path: Path) -> int:
    """Draw where the images of each split were taken to a PNG, north up.

    References are dots, queries crosses; a table of many images is thinned evenly.

    Returns:
        How many images are in the tables drawn.

    Raises:
        DataError: No split has an image.
    """
    from matplotlib.figure import Figure

    tables = {
        (split, part): table
        for split in _SPLITS
        for part in ("references", "queries")
        if (table := _table(dataset, split, part)) is not None and len(table)
    }
    if not tables:
        raise DataError("no split of the data set has an image to draw")
    drawn = dict(zip(tables, side_by_side(*tables.values()), strict=True))
    origin_m = np.floor(np.min([plane_m.min(axis=0) for plane_m in drawn.values()], axis=0))
    figure = Figure(figsize=(8, 8), layout="constrained")
    panel = figure.add_subplot()
    for (split, part), table in tables.items():
        thinned = drawn[split, part][:: -(-len(table) // _MOST_POINTS)] - origin_m
        is_reference = part == "references"
        panel.scatter(
            thinned[:, 0],
            thinned[:, 1],
            s=14 if is_reference else 10,
            marker="o" if is_reference else "x",
            linewidths=0.6,
            color=COLOURS[_SPLITS.index(split)],
            alpha=0.9 if is_reference else 0.5,
            label=f"{split}, {part}: {len(table):,}",
        )
    panel.set_aspect("equal", adjustable="datalim")
    names = axis_names(np.concatenate(list(drawn.values())))
    x_label, y_label = (
        f"{name} - {start_m:,.0f} (m)" if start_m else f"{name} (m)"
        for name, start_m in zip(names, origin_m, strict=True)
    )
    panel.set_xlabel(x_label)
    panel.set_ylabel(y_label)
    panel.legend(fontsize=8, markerscale=1.5)
    panel.grid(visible=True, alpha=0.3)
    save_figure(figure, path)
    return sum(map(len, tables.values()))


def side_by_side(*tables: PlaceTable) -> list[NDArray[np.float64]]:
    """Return where to draw the images of tables of one data set, ``(N, 2)`` each.

    Their easting and northing; where there are several regions, each lies in a cell of its own
    of a grid, from the lower left corner of the cell, at the same scale.
    """
    planes = [table.positions_m[:, :2] for table in tables]
    if all(table.region is None for table in tables):
        return planes
    regions = [np.asarray(table.region) for table in tables]
    codes, cell = np.unique(np.concatenate(regions), return_inverse=True)
    every = np.concatenate(planes)
    corners = np.full((len(codes), 2), np.inf)
    np.minimum.at(corners, cell, every)
    every = every - corners[cell]
    num_columns = int(np.ceil(np.sqrt(len(codes))))
    place = np.stack([cell % num_columns, cell // num_columns], axis=1)
    every += place * (1.0 + _BETWEEN_REGIONS) * np.maximum(every.max(axis=0), 1.0)
    return np.split(every, np.cumsum([len(plane) for plane in planes])[:-1])


def axis_names(positions_m: NDArray[np.float64]) -> tuple[str, str]:
    """Return what to call the axes of positions ``(N, 2 or 3)``.

    Easting and northing if all can be UTM coordinates (100 to 900 km east, 0 to 10,000 km
    north); else x and y, for a local frame may be turned.
    """
    x_m, y_m = positions_m[:, 0], positions_m[:, 1]
    is_utm = (x_m >= 100e3) & (x_m <= 900e3) & (y_m >= 0) & (y_m <= 10_000e3)
    return ("easting", "northing") if is_utm.all() else ("x", "y")


def _table(dataset: PlaceDataset, split: str, part: str) -> PlaceTable | None:
    try:
        table: PlaceTable = getattr(getattr(dataset, split), part)
    except DataError:  # a split that the data do not have; the check has said so
        return None
    return table
