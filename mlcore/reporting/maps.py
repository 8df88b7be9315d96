"""The report's map: queries and references as SVG paths, north up, metres to one scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlcore.reporting.charts import round_values
from mlcore.results import Evaluation

_WIDTH, _LEAST_HEIGHT, _MOST_HEIGHT, _MARGIN = 1000.0, 260.0, 1000.0, 40.0
RIGHT, WRONG = "right", "wrong"


class Layer(NamedTuple):
    """Queries of one condition and outcome that have no pictures, as one path."""

    condition: int
    outcome: str
    path: str


class Point(NamedTuple):
    """A query with pictures."""

    x: float
    y: float
    condition: int
    outcome: str
    label: str


@dataclass(frozen=True, kw_only=True)
class Map:
    """What the template draws; lengths in units of the viewBox."""

    width: float
    height: float
    references: str
    layers: Sequence[Layer]
    points: Sequence[Point]
    scale_m: str
    scale_px: float


class Frame:
    """From metres to the viewBox.

    Args:
        positions_m: ``(N, 2)``, all that has to be inside.
    """

    def __init__(self, positions_m: NDArray[np.float64]) -> None:
        low, high = positions_m.min(axis=0), positions_m.max(axis=0)
        extent = np.maximum(high - low, 1.0)
        inside = _WIDTH - 2 * _MARGIN
        self.scale = float(min(inside / extent[0], (_MOST_HEIGHT - 2 * _MARGIN) / extent[1]))
        self.height = max(_LEAST_HEIGHT, float(extent[1]) * self.scale + 2 * _MARGIN)
        self._centre_m = (low + high) / 2

    def __call__(self, positions_m: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``(N, 2)`` of positions ``(N, 2)``; y grows southwards."""
        offset = (positions_m - self._centre_m) * self.scale
        at = np.stack([_WIDTH / 2 + offset[:, 0], self.height / 2 - offset[:, 1]], axis=1)
        return at.round(1)

    def bar(self) -> tuple[str, float]:
        """Return a round length in metres and how long it is in the viewBox."""
        length_m = round_values(0.0, 0.2 * _WIDTH / self.scale, 5)[-1]
        return f"{length_m:g}", round(length_m * self.scale, 1)


def draw_map(
    shown: Evaluation,
    outcomes: Sequence[str],
    queries: NDArray[np.float64],
    references: NDArray[np.float64],
    pictured: Sequence[int],
    labels: Sequence[str],
    frame: Frame,
) -> Map:
    """Return the map.

    Args:
        shown: Results whose queries are drawn.
        outcomes: "right" or "wrong" of each query.
        queries: ``(Q, 2)`` in units of the viewBox.
        references: ``(N, 2)`` likewise.
        pictured: Rows of the queries that have pictures.
        labels: Of these, for a screen reader.
        frame: The scale.
    """
    numbers = condition_numbers(shown)
    is_pictured = np.isin(np.arange(len(queries)), pictured)
    layers: list[Layer] = []
    for number in range(len(shown.present_conditions)):
        for outcome in (RIGHT, WRONG):
            mine = (numbers == number) & (np.asarray(outcomes) == outcome) & ~is_pictured
            if mine.any():
                layers.append(Layer(number, outcome, _path(queries[mine], outcome)))
    points = [
        Point(
            float(queries[row, 0]),
            float(queries[row, 1]),
            int(numbers[row]),
            outcomes[row],
            label,
        )
        for row, label in zip(pictured, labels, strict=True)
    ]
    scale_m, scale_px = frame.bar()
    return Map(
        width=_WIDTH,
        height=round(frame.height, 1),
        references=_path(references, RIGHT),
        layers=layers,
        points=points,
        scale_m=scale_m,
        scale_px=scale_px,
    )


def condition_numbers(shown: Evaluation) -> NDArray[np.int64]:
    """Return the place of each query's condition among those that are present."""
    present = np.unique(shown.condition)
    return np.searchsorted(present, shown.condition)


def _path(points: NDArray[np.float64], outcome: str) -> str:
    """Return dots, or crosses for what is wrong: told apart without their colour."""
    if outcome == RIGHT:
        return "".join(f"M{x:g} {y:g}h0" for x, y in points)
    return "".join(f"M{x - 4:g} {y - 4:g}l8 8m-8 0l8-8" for x, y in points)
