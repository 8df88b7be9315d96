"""Line charts as numbers, which the report's template draws in the page's colours."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

_LEFT, _RIGHT, _TOP, _BOTTOM = 60.0, 304.0, 8.0, 178.0  # of a viewBox of 320 x 220
"""Also in the template. Labels of six figures end before the axis's name and the border."""


_SMALL = 0.01


class Line(NamedTuple):
    """A line to draw.

    Attributes:
        style: Its class in the style sheet.
        x: Values along the x axis.
        y: As many values along the y axis.
    """

    style: str
    x: Sequence[float]
    y: Sequence[float]


class Tick(NamedTuple):
    """A tick of an axis: its position in the viewBox, and its label."""

    at: float
    text: str


class DrawnLine(NamedTuple):
    """A line in units of the viewBox, as SVG ``points``."""

    style: str
    points: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart for the template, which escapes the texts."""

    title: str
    description: str
    x_label: str
    y_label: str
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    lines: Sequence[DrawnLine]
    condition: int | None = None


@dataclass(frozen=True, kw_only=True)
class ChartSection:
    """A section of the report that holds charts.

    Attributes:
        id: Identifier of the section, for links.
        title: Its heading.
        charts: At least one.
        text: A paragraph above the charts.
        legend: Style and name of each line.
    """

    id: str
    title: str
    charts: Sequence[Chart]
    text: str = ""
    legend: Sequence[tuple[str, str]] = ()


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    description: str,
    x_label: str,
    y_label: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    condition: int | None = None,
) -> Chart:
    """Scale lines to a chart with round ticks.

    Args:
        lines: Finite values, at least one point in total.
        title: Title of the chart.
        description: For screen readers, instead of the lines.
        x_label: Name and unit.
        y_label: Name and unit.
        x_range: Range of the axis; None: that of the lines.
        y_range: Likewise.
        condition: The condition whose filter hides the chart; None for no filter.
    """
    x_low, x_high = x_range or _range_of([value for line in lines for value in line.x])
    y_low, y_high = y_range or _range_of([value for line in lines for value in line.y])

    def x_at(value: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * (value - x_low) / (x_high - x_low), 1)

    def y_at(value: float) -> float:
        return round(_BOTTOM - (_BOTTOM - _TOP) * (value - y_low) / (y_high - y_low), 1)

    return Chart(
        title=title,
        description=description,
        x_label=x_label,
        y_label=y_label,
        x_ticks=_ticks(x_low, x_high, x_at),
        y_ticks=_ticks(y_low, y_high, y_at),
        lines=[
            DrawnLine(
                line.style,
                " ".join(f"{x_at(x)},{y_at(y)}" for x, y in zip(line.x, line.y, strict=True)),
            )
            for line in lines
        ],
        condition=condition,
    )


def round_values(low: float, high: float, most: int = 6) -> list[float]:
    """Return the multiples of 1, 2 or 5 times a power of ten in a range, at most ``most``."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    # Rounding may put ten times the power just above the step that is needed.
    step = next(s * power for s in (1, 2, 5, 10, 20) if s * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)][: most + 1]


def _range_of(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        margin = abs(low) / 2 or 1.0
        return low - margin, high + margin
    return low, high


def _ticks(low: float, high: float, at: Callable[[float], float]) -> list[Tick]:
    """Return ticks whose labels are all decimal, or all with an exponent if all are small."""
    values = round_values(low, high)
    is_small = max(map(abs, values)) < _SMALL
    return [
        Tick(at(value), _with_exponent(value) if is_small else f"{value:.6g}")
        for value in values
    ]


def _with_exponent(value: float) -> str:
    """Return a number as in 2.5e-3."""
    mantissa, _, exponent = f"{value:.5e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}" if value else "0"
