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
from benchmarks._pull import FAR_M, NEAR_M, Probe
from benchmarks._why_tables import UNTRAINED, Found, Runs, draw, gradients, similarities, terms
from benchmarks.regimes.plan import AREA_LIMIT_M, OutOfTimeError
from benchmarks.regimes.rows import REGIMES, Regime
from benchmarks.regimes.runs import PLAIN, WHITENED, Job, Result, evaluate, keep, kept, run
from benchmarks.regimes.towns import QUICK_TOWN, TopOfNetwork, Town, open_town
from mlcore.experiment import assemble
from mlcore.models.networks import Network
from mlcore.registry.discovery import Registry
from mlcore_soft_contrastive.loss import BatchLoss

DURATION = "15 minutes on 1 core"
TOWNS = (1, 0)
STEPS = 200


@dataclass(frozen=True)
class Start:
    """What training starts from.

    Attributes:
        name: In tables.
        regime: Network, what is cached, and steps.
        learning_rate: Of all its runs.
        centred: Whether the mean over images is taken away from the cached features.
        towns: Number of towns it is done on.
        variants: Number of variants it is done with, of those that come first.
    """

    name: str
    regime: Regime
    learning_rate: str
    centred: bool = False
    towns: int = len(TOWNS)
    variants: int | None = None


def _frozen(name: str, *pooling: str, centred: bool = False) -> Start:
    frozen = REGIMES["frozen"]
    return Start(name, replace(frozen, words=(*frozen.words, *pooling)), "1e-3", centred)


STARTS = (
    Start("scratch", REGIMES["scratch"], "3e-3", towns=1, variants=5),
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
    Variant("step", ("--influence", "step")),
    Variant("support 30 m", ("--influence.support_limit_m", "30")),
    Variant("beta 10", ("--loss.beta", "10")),
    Variant("no mining", ("--loss.mining", "false")),
    Variant("step, lambda 0.6", ("--influence", "step", "--loss.base", "0.6")),
    Variant(
        "support 30 m, lambda 0.6",
        ("--influence.support_limit_m", "30", "--loss.base", "0.6"),
    ),
)


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
    return Found(*_areas(result), json.loads(pulls.read_text(encoding="utf-8")))


def _areas(result: Result) -> tuple[float, float]:
    """Return the areas to 25 m on validation, plain and whitened; NaN if it diverged."""
    found = [result.evaluations.get(("validation", kind)) for kind in (PLAIN, WHITENED)]
    plain, whitened = (float("nan") if e is None else e.area(AREA_LIMIT_M) for e in found)
    return plain, whitened


def untrained(study: Study, start: Start, number: int) -> Found:
    """Return the areas before the first step."""
    job = Job(
        row=UNTRAINED,
        path=study.runs / start.name / f"{UNTRAINED}, town {number}.json",
        options=study.words(start, VARIANTS[0]),
        town=number,
        seed=0,
        splits=("validation",),
    )
    result = kept(job)
    if result is None:
        town = _opened(study, start.regime.blocks, number)
        town = centred(town) if start.centred else town
        config = job.config(study.registry)
        model = assemble(config, dataset=town.dataset, data_notes=()).model.eval()
        assert isinstance(model, Network)
        network = TopOfNetwork(model, start.regime.blocks)
        result = Result(evaluate(network, town, config.evaluation, job.splits), "", 0.0)
        keep(job, result)
    return Found(*_areas(result), [])


def collect(study: Study, starts: Sequence[Start], towns: Sequence[int]) -> Runs:
    """Return all runs.

    Raises:
        OutOfTimeError: They are not finished.
    """
    found: Runs = {}
    for number in towns:
        for start in reversed(starts):  # the quick ones first
            if number in towns[: start.towns]:
                before = untrained(study, start, number)
                found.setdefault((start.name, UNTRAINED), []).append(before)
                for variant in VARIANTS[: start.variants]:
                    one = measured(study, start, variant, number)
                    found.setdefault((start.name, variant.name), []).append(one)
    return found


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
    names = [start.name for start in starts]
    body = "\n\n".join(
        [
            "## Similarities at the first step (mean ± standard deviation)",
            similarities(found, names),
            "Repelling term on (%): sum / (1 + sum) of its exponentials, mean over rows.",
            "## Where the gradient goes (% of the summed norm of all pairs)",
            f"Near pairs are below {NEAR_M:g} m, far ones at least {FAR_M:g} m apart.",
            gradients(found, names, ("paper", "step", "lambda 0.8")),
            "## What the constants change (%)",
            terms(found, names, [variant.name for variant in VARIANTS]),
        ]
    )
    if options.save:
        draw(found, names, common.RESULTS / "why.png")
        body += "\n\n![similarities and shares of the gradient by step](why.png)"
    common.report(
        __file__,
        __doc__ or "",
        body,
        options=options,
        argv=[word for word in argv if word in ("--quick", "--save")],
        method=f"one thread; {steps} steps; towns {', '.join(map(str, towns))}, scratch the "
        "first; one seed; embeddings are not whitened but for the last column",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
