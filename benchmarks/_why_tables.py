"""The tables and the figure of the benchmark of the gradient's way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import _common as common
from benchmarks._pull import FAR_M, NEAR_M, ZONES

UNTRAINED = "untrained"
WINDOWS = (("1-10", 0, 10), ("11-50", 10, 50), ("51-100", 50, 100), ("101-200", 100, 200))


class Found(NamedTuple):
    """One run: its area to 25 m on validation, and a summary of each step's gradient."""

    area: float
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
        before = _areas(found[start, UNTRAINED])
        rows.append([start, UNTRAINED, *[""] * 6, before])
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
                    _areas(runs),
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
    ]
    return common.markdown_table(heading, rows)


def _areas(runs: Sequence[Found]) -> str:
    return ", ".join(_percent(one.area) for one in runs)


def draw(found: Runs, starts: Sequence[str], path: Path) -> None:
    """Draw the shares of the gradient by step, one panel per start and loss."""
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    shown = ("paper", "step", "lambda 0.8")
    parts = (
        ("attract near", "#1b6ca8"),
        ("attract band", "#8fc1e3"),
        ("attract far", "#d7e8f5"),
        ("repel near", "#f6d5c3"),
        ("repel band", "#e8925e"),
        ("repel far", "#b5430f"),
    )
    figure, axes = plt.subplots(
        len(shown),
        len(starts),
        figsize=(3 * len(starts), 6),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for line, variant in zip(axes, shown, strict=True):
        for axis, start in zip(line, starts, strict=True):
            runs = found[start, variant]
            window = max(1, len(runs[0].steps) // 30)
            end = len(runs[0].steps) // window * window
            steps = np.arange(end).reshape(-1, window).mean(axis=1) + 1
            shares = [
                np.nanmean([[s[name] for s in one.steps[:end]] for one in runs], axis=0)
                .reshape(-1, window)
                .mean(axis=1)
                for name, _ in parts
            ]
            axis.stackplot(steps, shares, colors=[color for _, color in parts])
            axis.set(ylim=(0, 1), xlim=(steps[0], steps[-1]))
            axis.set_title(f"{start}: {variant}", fontsize=9)
    names = {
        "near": f"< {NEAR_M:g} m",
        "far": f">= {FAR_M:g} m",
        "band": f"{NEAR_M:g} to {FAR_M:g} m",
    }
    labels = [f"{what}s, {names[zone]}" for what, zone in (name.split() for name, _ in parts)]
    handles = [Patch(color=color) for _, color in parts]
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    figure.supylabel("share of the gradient", fontsize=9)
    figure.supxlabel("step", fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)
