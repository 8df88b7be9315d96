"""The tables and the figure of the benchmark of the gradient's way."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import _common as common
from benchmarks._pull import FAR_M, NEAR_M, ZONES

UNTRAINED = "untrained"
WINDOWS = (("1-10", 0, 10), ("11-50", 10, 50), ("51-100", 50, 100), ("101-200", 100, 200))


class Found(NamedTuple):
    """One run: its areas to 25 m on validation, and a summary of each step's gradient."""

    area: float
    whitened: float
    steps: list[dict[str, float]]

    def mean(self, name: str, first: int, end: int) -> float:
        """Return the mean of a figure over some steps."""
        return float(np.nanmean([one[name] for one in self.steps[first:end]]))


Runs = dict[tuple[str, str], list[Found]]
"""By start and variant, one per town."""


def _mean(runs: Sequence[Found], name: str, first: int, end: int) -> float:
    return float(np.mean([one.mean(name, first, end) for one in runs]))


def similarities(found: Runs, starts: Sequence[str]) -> str:
    """Return the similarities that training starts from, and how far they repel."""
    rows = []
    for start in starts:
        paper, lower = (found[start, name] for name in ("paper", "lambda 0.8"))
        rows.append(
            [
                start,
                *(
                    f"{_mean(paper, f'similarity {zone}', 0, 1):.2f} ± "
                    f"{_mean(paper, f'deviation {zone}', 0, 1):.2f}"
                    for zone in ("near", "far")
                ),
                *(_percent(_mean(runs, "repulsion", 0, 1)) for runs in (paper, lower)),
            ]
        )
    heading = [
        "start",
        "similarity of near pairs",
        "of far pairs",
        "repelling term on, lambda 1",
        "lambda 0.8",
    ]
    return common.markdown_table(heading, rows)


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def gradients(found: Runs, starts: Sequence[str], variants: Sequence[str]) -> str:
    """Return shares of the gradient by zone over training."""
    names = [f"{what} {zone}" for what in ("attract", "repel") for zone in ZONES]
    rows = []
    for start in starts:
        for variant in variants:
            runs = found[start, variant]
            length = len(runs[0].steps)
            for window, first, end in WINDOWS:
                if first < length:
                    figures = (_percent(_mean(runs, name, first, end)) for name in names)
                    rows.append([start, variant, window, *figures])
    return common.markdown_table(["start", "loss", "steps", *names], rows)


def terms(found: Runs, starts: Sequence[str], variants: Sequence[str]) -> str:
    """Return what each variant changes: terms at the start and the end, and the area."""
    rows = []
    for start in starts:
        rows.append([start, UNTRAINED, *[""] * 6, *_areas(found[start, UNTRAINED])])
        for variant in variants:
            if (start, variant) not in found:
                continue
            runs = found[start, variant]
            length = len(runs[0].steps)
            late = (max(0, length - 50), length)
            rows.append(
                [
                    start,
                    variant,
                    _percent(_mean(runs, "repulsion", 0, 10)),
                    _percent(_mean(runs, "repulsion", *late)),
                    _percent(_mean(runs, "sum far", 0, 10)),
                    _percent(_mean(runs, "kept", 0, 10)),
                    f"{_mean(runs, 'similarity near', *late):.2f}",
                    f"{_mean(runs, 'similarity far', *late):.2f}",
                    *_areas(runs),
                ]
            )
    heading = [
        "start",
        "variant",
        "repelling term on, first 10 steps",
        "last 50",
        "far pairs in the attracting sum, first 10",
        "pairs kept by mining, first 10",
        "similarity near, last 50",
        "far",
        "area to 25 m by town",
        "whitened",
    ]
    return common.markdown_table(heading, rows)


def _areas(runs: Sequence[Found]) -> tuple[str, str]:
    return (
        ", ".join(_percent(one.area) for one in runs),
        ", ".join(_percent(one.whitened) for one in runs),
    )


_PARTS = (
    ("attract near", "#1b6ca8"),
    ("attract band", "#8fc1e3"),
    ("attract far", "#d7e8f5"),
    ("repel near", "#f6d5c3"),
    ("repel band", "#e8925e"),
    ("repel far", "#b5430f"),
)
_LAMBDAS = (("paper", "#222222"), ("lambda 0.8", "#2a8a57"), ("lambda 0.6", "#c58b00"))
_BINS = 24


def draw(found: Runs, starts: Sequence[str], path: Path) -> None:
    """Draw similarities, and shares of the gradient, by step; one column per start."""
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    figure, axes = plt.subplots(
        3,
        len(starts),
        figsize=(2.6 * len(starts) + 2.4, 6.5),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for column, start in enumerate(starts):
        for name, color in _LAMBDAS:
            for zone, style in (("near", "-"), ("far", "--")):
                steps, values = _binned(found[start, name], f"similarity {zone}")
                axes[0, column].plot(steps, values, color=color, linestyle=style)
        axes[0, column].set_title(f"start: {start}", fontsize=9)
        for axis, name in zip(axes[1:, column], ("paper", "step"), strict=True):
            curves = [_binned(found[start, name], part) for part, _ in _PARTS]
            colors = [color for _, color in _PARTS]
            axis.stackplot(curves[0][0], [values for _, values in curves], colors=colors)
        axes[2, column].set_xlabel("step", fontsize=9)
        axes[0, column].set(ylim=(0, 1), xscale="log")
    labels = ("mean similarity", "paper: share of gradient", "step: share of gradient")
    for axis, label in zip(axes[:, 0], labels, strict=True):
        axis.set_ylabel(label, fontsize=9)
    lines = [Line2D([], [], color=color, label=name) for name, color in _LAMBDAS]
    lines += [
        Line2D([], [], color="grey", linestyle=style, label=f"{zone} pairs")
        for zone, style in (("near", "-"), ("far", "--"))
    ]
    where = {"near": f"< {NEAR_M:g} m", "far": f">= {FAR_M:g} m"}
    patches = []
    for name, color in _PARTS:
        what, zone = name.split()
        between = where.get(zone, f"{NEAR_M:g} to {FAR_M:g} m")
        patches.append(Patch(color=color, label=f"{what}s, {between}"))
    axes[0, -1].legend(handles=lines, fontsize=8, loc="upper left", bbox_to_anchor=(1.02, 1))
    axes[1, -1].legend(handles=patches, fontsize=8, loc="upper left", bbox_to_anchor=(1.02, 1))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _binned(runs: Sequence[Found], name: str) -> tuple[list[float], list[float]]:
    """Return steps from 1, and means over towns and growing numbers of steps."""
    length = len(runs[0].steps)
    edges = np.unique(np.round(np.geomspace(1, length + 1, _BINS)).astype(int)) - 1
    steps, values = [], []
    for first, end in pairwise(edges.tolist()):
        steps.append((first + end + 1) / 2)
        values.append(_mean(runs, name, first, end))
    return steps, values
