"""The tables of the benchmark of photographs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks import _common as common
from benchmarks._photographs import Photographs, Trained
from benchmarks.regimes.rows import Row, Setting
from benchmarks.regimes.statistics import Difference, Floats, Quantity, against
from mlcore.evaluation.results import Evaluation

PROPOSED = "proposed"


class Choice(NamedTuple):
    """The chosen setting of a loss, and its mean area on the blocks left out."""

    setting: Setting
    row: Row
    area: float


class Part(NamedTuple):
    """The table of one set and one trained part, and what it can tell apart.

    Attributes:
        text: Of the section.
        half_width: Median half width of the intervals of differences in area, in points.
        num_apart: Trained losses whose interval leaves out 0.
        num_trained: Losses that are compared with the proposed one.
    """

    text: str
    half_width: float
    num_apart: int
    num_trained: int


def quantities(photographs: Photographs) -> tuple[Quantity, Quantity]:
    """Return area and Recall@1 of a set, as ratios of sums over queries."""
    limit_m = photographs.area_limit_m

    def closeness(one: Evaluation) -> Floats:
        found: Floats = np.maximum(0.0, 1.0 - one.distance_m / limit_m)
        return found

    def first(one: Evaluation) -> Floats:
        return (one.first_hit_rank == 0).astype(np.float64)

    def each(one: Evaluation) -> Floats:
        return np.ones(len(one.distance_m))

    return (
        Quantity(f"area to {limit_m:g} m", closeness, each),
        Quantity(f"R@1, {photographs.radius_m:g} m", first, each),
    )


def tabulated(
    photographs: Photographs,
    trained: Trained,
    evaluations: Mapping[str, Sequence[Evaluation]],
    chosen: Mapping[str, Choice],
    diverged: Sequence[str],
) -> Part:
    """Return the table of one set and one trained part.

    Args:
        photographs: The set.
        trained: The part.
        evaluations: On test, of each row by seed; one of rows that are not trained.
        chosen: The setting of each trained row.
        diverged: Rows that are not compared.
    """
    area, recall = quantities(photographs)
    versus = {quantity.name: _differences(evaluations, quantity) for quantity in (area, recall)}
    names = sorted(evaluations, key=lambda name: -_mean(evaluations[name], area))
    table = common.markdown_table(
        [
            "loss",
            "learning rate",
            "constant",
            f"{area.name}, blocks left out",
            recall.name,
            area.name,
            f"{area.name} less the proposed loss's [95 %]",
            "p (Holm)",
            f"{recall.name} less the proposed loss's [95 %]",
        ],
        [
            [
                name,
                *_setting(chosen.get(name)),
                *(_spread(evaluations[name], quantity) for quantity in (recall, area)),
                *_versus(versus[area.name].get(name)),
                _versus(versus[recall.name].get(name))[0],
            ]
            for name in names
        ],
    )
    found = [one for name, one in versus[area.name].items() if name in chosen]
    text = f"### {photographs.name}: {trained.summary}\n\n{table}"
    if diverged:
        text += f"\n\nDiverged, and not compared: {', '.join(diverged)}."
    half = statistics.median([50 * (one.high - one.low) for one in found]) if found else 0.0
    return Part(text, half, sum(one.low > 0 or one.high < 0 for one in found), len(found))


def _differences(
    evaluations: Mapping[str, Sequence[Evaluation]], quantity: Quantity
) -> dict[str, Difference]:
    if PROPOSED not in evaluations:
        return {}
    names = [name for name in evaluations if name != PROPOSED]
    others = [[evaluations[name]] for name in names]
    found = against([evaluations[PROPOSED]], others, quantity)
    return dict(zip(names, found, strict=True))


def _values(evaluations: Sequence[Evaluation], quantity: Quantity) -> list[float]:
    return [100 * float(quantity.numerator(one).mean()) for one in evaluations]


def _mean(evaluations: Sequence[Evaluation], quantity: Quantity) -> float:
    return statistics.mean(_values(evaluations, quantity))


def _spread(evaluations: Sequence[Evaluation], quantity: Quantity) -> str:
    values = _values(evaluations, quantity)
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def _setting(chosen: Choice | None) -> tuple[str, str, str]:
    if chosen is None:
        return "", "", ""
    setting, row, area = chosen
    option = row.constant.removeprefix("loss.")
    return setting.learning_rate, f"{option} {setting.value}", f"{100 * area:.1f}"


def _versus(difference: Difference | None) -> tuple[str, str]:
    if difference is None:
        return "", ""
    shown, low, high = (100 * value for value in difference[:3])
    return f"{shown:+.1f} [{low:+.1f}, {high:+.1f}]", f"{difference.p:.3f}"
