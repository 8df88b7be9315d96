"""Why the proposed loss ends where it does: which pairs its gradient goes to, by the start.

Heads on frozen EfficientNet-Lite0 and the small network from random weights are trained on a
town; at every step, the gradient of the batch is divided by distance of the pairs. Three
frozen starts differ in how similar any two embeddings are: averages are the most alike, then
means over a grid, then the grid with the mean image taken away. Areas are on validation, one
seed per town: they show directions, not differences of a point. Runs are kept: the same
command continues.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from benchmarks import _common as common
from benchmarks._pull import FAR_M, NEAR_M, ZONES, Probe
from benchmarks.regimes.plan import AREA_LIMIT_M, OutOfTimeError
from benchmarks.regimes.rows import REGIMES, Regime
from benchmarks.regimes.runs import PLAIN, Job, keep, kept, run
from benchmarks.regimes.towns import Town, open_town
from mlcore.registry.discovery import Registry
from mlcore_soft_contrastive.loss import BatchLoss

DURATION = "15 minutes on 1 core"
TOWNS = (1, 0)
STEPS = 200
QUICK_TOWN = ("--dataset.train_length_m", "400", "--dataset.test_length_m", "200")
VALIDATION = ("validation", PLAIN)


@dataclass(frozen=True)
class Start:
    """What training starts from.

    Attributes:
        name: In tables.
        regime: Network, what is cached, and steps.
        learning_rate: Of all its runs.
        centred: Whether the mean over images is taken away from the cached features.
        towns: Number of towns it is done on.
    """

    name: str
    regime: Regime
    learning_rate: str
    centred: bool = False
    towns: int = len(TOWNS)


def _frozen(name: str, *pooling: str, centred: bool = False) -> Start:
    frozen = REGIMES["frozen"]
    return Start(name, replace(frozen, words=(*frozen.words, *pooling)), "1e-3", centred)


STARTS = (
    Start("scratch", REGIMES["scratch"], "3e-3", towns=1),
    _frozen("average", "--pooling", "average"),
    _frozen("grid"),
    _frozen("grid, centred", centred=True),
)


class Variant(NamedTuple):
    """What differs from the paper's constants."""

    name: str
    words: tuple[str, ...] = ()


VARIANTS = (
    Variant("paper"),
    Variant("lambda 0.8", ("--loss.base", "0.8")),
    Variant("lambda 0.6", ("--loss.base", "0.6")),
    Variant("beta 10", ("--loss.beta", "10")),
    Variant("step", ("--influence", "step")),
    Variant("support 30 m", ("--influence.support_limit_m", "30")),
    Variant("no mining", ("--loss.mining", "false")),
)
WINDOWS = (("1-10", 0, 10), ("11-50", 10, 50), ("51-100", 50, 100), ("101-200", 100, 200))


class Found(NamedTuple):
    """One run: its area to 25 m on validation, and a summary of each step's gradient."""

    area: float
    steps: list[dict[str, float]]

    def mean(self, name: str, first: int, end: int) -> float:
        """Return the mean of a figure over some steps."""
        return float(np.nanmean([one[name] for one in self.steps[first:end]]))


class Study(NamedTuple):
    """What all runs of one call share."""

    runs: Path
    steps: int
    extra: tuple[str, ...]
    deadline: float
    registry: Registry

    def words(self, start: Start, variant: Variant) -> tuple[str, ...]:
        """Return the options of a run."""
        return (
            *start.regime.options(),
            *("--loss", "proposed", *variant.words),
            *("--training.learning_rate", start.learning_rate),
            *("--training.max_steps", str(self.steps), *self.extra),
        )


@lru_cache(maxsize=1)
def _opened(study: Study, blocks: int | None, number: int) -> Town:
    """Return a town with its cache, which is that of the comparison in regimes."""
    regime = REGIMES["scratch" if blocks is None else "frozen"]
    job = Job(
        row="", path=study.runs, options=(*regime.options(), *study.extra), town=number, seed=0
    )
    return open_town(job.config(study.registry), regime, study.runs / "features")


def centred(town: Town) -> Town:
    """Return a town whose cached features have mean 0 over training images, by channel."""
    train = town.dataset.train
    index = np.concatenate([train.references.index, train.queries.index])
    mean = town.of(index).mean(dim=(0, 2, 3), keepdim=True)
    return replace(town, cached=town.cached - mean)


def measured(study: Study, start: Start, variant: Variant, number: int) -> Found:
    """Return what a run found, doing it if it is not kept.

    Raises:
        OutOfTimeError: It is not kept, and there is no time.
    """
    records: list[Mapping[str, float]] = []

    def probed(loss: nn.Module) -> nn.Module:
        assert isinstance(loss, BatchLoss)
        return Probe(loss, records)

    job = Job(
        row=variant.name,
        path=study.runs / start.name / f"{variant.name}, town {number}.json",
        options=study.words(start, variant),
        town=number,
        seed=0,
        splits=("validation",),
        adapt=probed,
    )
    pulls = job.path.with_suffix(".steps.json")
    result = kept(job)
    if result is None:
        if time.monotonic() > study.deadline:
            raise OutOfTimeError
        town = _opened(study, start.regime.blocks, number)
        town = centred(town) if start.centred else town
        result = run(job, start.regime, town, study.registry)
        job.path.parent.mkdir(parents=True, exist_ok=True)
        pulls.write_text(json.dumps(records), encoding="utf-8")
        keep(job, result)
        print(f"{start.name}, {job.path.name} {result.seconds:.1f} s", flush=True)
    one = result.evaluations.get(VALIDATION)
    area = float("nan") if one is None else one.area(AREA_LIMIT_M)
    return Found(area, json.loads(pulls.read_text(encoding="utf-8")))


Runs = dict[tuple[str, str], list[Found]]
"""By start and variant, one per town."""


def collect(study: Study, starts: Sequence[Start], towns: Sequence[int]) -> Runs:
    """Return all runs.

    Raises:
        OutOfTimeError: They are not finished.
    """
    found: Runs = {}
    for number in towns:
        for start in reversed(starts):  # the quick ones first
            if number in towns[: start.towns]:
                for variant in VARIANTS:
                    one = measured(study, start, variant, number)
                    found.setdefault((start.name, variant.name), []).append(one)
    return found


def _mean(runs: Sequence[Found], name: str, first: int, end: int) -> float:
    return float(np.mean([one.mean(name, first, end) for one in runs]))


def _starts(found: Runs, starts: Sequence[Start]) -> str:
    """Return the similarities that training starts from, and how far they repel."""
    rows = []
    for start in starts:
        paper, lower = (found[start.name, name] for name in ("paper", "lambda 0.8"))
        rows.append(
            [
                start.name,
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


def _training(found: Runs, starts: Sequence[Start], variants: Sequence[str]) -> str:
    """Return shares of the gradient by zone over training."""
    names = [f"{what} {zone}" for what in ("attract", "repel") for zone in ZONES]
    rows = []
    for start in starts:
        for variant in variants:
            runs = found[start.name, variant]
            length = len(runs[0].steps)
            for window, first, end in WINDOWS:
                if first < length:
                    figures = (_percent(_mean(runs, name, first, end)) for name in names)
                    rows.append([start.name, variant, window, *figures])
    return common.markdown_table(["start", "loss", "steps", *names], rows)


def _variants(found: Runs, starts: Sequence[Start]) -> str:
    """Return what each variant changes: terms at the start and the end, and the area."""
    rows = []
    for start in starts:
        for variant in VARIANTS:
            runs = found[start.name, variant.name]
            length = len(runs[0].steps)
            late = (max(0, length - 50), length)
            rows.append(
                [
                    start.name,
                    variant.name,
                    _percent(_mean(runs, "repulsion", 0, 10)),
                    _percent(_mean(runs, "repulsion", *late)),
                    _percent(_mean(runs, "sum far", 0, 10)),
                    _percent(_mean(runs, "kept", 0, 10)),
                    f"{_mean(runs, 'similarity near', *late):.2f}",
                    f"{_mean(runs, 'similarity far', *late):.2f}",
                    ", ".join(f"{100 * one.area:.1f}" for one in runs),
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


def draw(found: Runs, starts: Sequence[Start], path: Path) -> None:
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
            runs = found[start.name, variant]
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
            axis.set_title(f"{start.name}: {variant}", fontsize=9)
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


def main(argv: Sequence[str]) -> int:
    """Run the benchmark."""
    parser = common.parser(__file__, __doc__ or "")
    parser.add_argument("--runs", type=Path, default=Path("runs/why"), metavar="DIR")
    parser.add_argument("--minutes", type=float, default=90.0, help="begin no run after that")
    options = parser.parse_args(argv)
    starts: tuple[Start, ...] = STARTS
    towns: tuple[int, ...] = TOWNS
    steps = STEPS
    if options.quick:
        options.runs /= "quick"
        shutil.rmtree(options.runs, ignore_errors=True)
        starts, towns, steps = (STARTS[0], STARTS[3]), TOWNS[:1], 2
    torch.set_num_threads(1)
    study = Study(
        options.runs,
        steps,
        QUICK_TOWN if options.quick else (),
        time.monotonic() + 60 * options.minutes,
        Registry.discover(),
    )
    try:
        found = collect(study, starts, towns)
    except OutOfTimeError:
        print("not finished: give the same command to continue; there is no table before")
        return 0
    body = "\n\n".join(
        [
            "## Similarities at the first step (mean ± standard deviation)",
            _starts(found, starts),
            "Repelling term on (%): sum / (1 + sum) of its exponentials, mean over rows.",
            "## Where the gradient goes (% of the summed norm of all pairs)",
            f"Near pairs are below {NEAR_M:g} m, far ones at least {FAR_M:g} m apart.",
            _training(found, starts, ("paper", "step", "lambda 0.8")),
            "## What the constants change (%)",
            _variants(found, starts),
        ]
    )
    if options.save:
        draw(found, starts, common.RESULTS / "why.png")
        body += "\n\n![shares of the gradient by step](why.png)"
    common.report(
        __file__,
        __doc__ or "",
        body,
        options=options,
        argv=[word for word in argv if word in ("--quick", "--save")],
        method=f"one thread; {steps} steps; towns {', '.join(map(str, towns))}, scratch the "
        "first; one seed; embeddings are not whitened",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
