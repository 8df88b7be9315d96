"""Robustness to embedding dimension and reference spacing, from pretrained features.

Figures 1 and 2 of the supplement on towns that chose no setting: EfficientNet-Lite0 off the
shelf, and heads trained on its frozen features with the settings of the comparison in regimes.
Each is cut to its first principal components, with whitening as in the supplement and without.
Models that are done are kept: the same command continues.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from benchmarks import _common as common
from benchmarks.regimes.plan import OFF_THE_SHELF, OutOfTimeError
from benchmarks.regimes.rows import BY_NAME, REGIMES, Setting
from benchmarks.regimes.runs import Job, embed, train
from benchmarks.regimes.towns import QUICK_TOWN, TopOfNetwork, Town, open_town
from mlcore.evaluation.sweeps import EmbeddedSplit, mean_accuracy, mean_upper_bound, sweep
from mlcore.experiment import assemble
from mlcore.models.networks import Network
from mlcore.options.engine import EvaluationOptions
from mlcore.registry.discovery import Registry
from mlcore.retrieval.references import training_images
from mlcore.retrieval.whitening import Whitening, fit_whitening

DURATION = "10 minutes on 1 core"
TOWNS = (0, 11, 12, 13)
THRESHOLD_M = 10.0
DIMENSIONS = (2, 4, 8, 16, 32, 64, 128, 250)
SPACINGS_M = (0.0, 5.0, 10.0, 20.0, 40.0)
FITTED_IMAGES = 1000
"""Training images that the components are fitted to: four per dimension."""
LOSSES = {
    "proposed": Setting("3e-4", "0.8"),
    "pml-multi-similarity": Setting("3e-4", "0.5"),
    "triplet": Setting("1e-4", "0.3"),
}
"""The settings that the comparison in regimes chose on town 1."""
KINDS = ("whitened", "not whitened")

Figures = dict[str, dict[str, list[float]]]
"""Accuracies by kind, and by "dimensions" or "spacings"; the bound of each spacing."""


def measured(town: Town, job: Job, registry: Registry) -> Figures:
    """Return the accuracies of one model on the test of one town."""
    config = job.config(registry)
    experiment = assemble(config, dataset=town.dataset, data_notes=())
    assert isinstance(experiment.model, Network)
    network = TopOfNetwork(experiment.model, 0)
    if job.row == OFF_THE_SHELF:
        experiment.model.projection = nn.Identity()
        network.eval()
    else:
        train(experiment, network, town)
    index = training_images(town.dataset, FITTED_IMAGES)
    fitted = fit_whitening(embed(network, town, index), max(DIMENSIONS), source="train")
    rotation = replace(fitted, deviation=np.ones_like(fitted.deviation))
    found: Figures = {}
    for kind, components in zip(KINDS, (fitted, rotation), strict=True):
        found[kind] = _swept(network, town, components, config.evaluation)
    return found


def _swept(
    network: nn.Module, town: Town, components: Whitening, options: EvaluationOptions
) -> dict[str, list[float]]:
    split = town.dataset.test
    embedded = EmbeddedSplit(
        split=split,
        references=components(embed(network, town, split.references.index)),
        queries=components(embed(network, town, split.queries.index)),
        whitening="train",
        whitening_images=components.num_images,
    )
    by_dimension, by_spacing = (
        sweep(embedded, options, dimensions=dimensions, spacings_m=spacings_m, name="")
        for dimensions, spacings_m in (
            (DIMENSIONS, SPACINGS_M[:1]),
            (DIMENSIONS[-1:], SPACINGS_M),
        )
    )
    return {
        "sizes": [one.dimensions for one in by_dimension],
        "dimensions": [mean_accuracy(one, THRESHOLD_M) for one in by_dimension],
        "spacings": [mean_accuracy(one, THRESHOLD_M) for one in by_spacing],
        "bound": [mean_upper_bound(one, THRESHOLD_M) for one in by_spacing],
    }


class Study(NamedTuple):
    """What all models of one call share."""

    runs: Path
    towns: tuple[int, ...]
    losses: Mapping[str, Setting]
    words: tuple[str, ...]
    steps: int
    deadline: float
    registry: Registry

    def job(self, name: str, town: int) -> Job:
        """Return the run of a loss, or of the features off the shelf."""
        loss = BY_NAME[name].options(self.losses[name]) if name in self.losses else []
        return Job(
            row=name,
            path=self.runs / f"{name}, town {town}.json",
            options=(*self.words, "--training.max_steps", f"{self.steps}", *loss),
            town=town,
            seed=0,
        )


def collect(study: Study) -> dict[str, list[Figures]]:
    """Return the figures of each model by town, measuring what is not kept.

    Raises:
        OutOfTimeError: They are not finished.
    """
    found: dict[str, list[Figures]] = {}
    for number in study.towns:
        for name in (OFF_THE_SHELF, *study.losses):
            job = study.job(name, number)
            if not job.path.exists():
                if time.monotonic() > study.deadline:
                    raise OutOfTimeError
                town = _opened(job, study.runs / "features", study.registry)
                figures = measured(town, job, study.registry)
                job.path.write_text(json.dumps(figures), encoding="utf-8")
                print(f"{job.path.stem}: {figures[KINDS[1]]['spacings'][0]:.3f}", flush=True)
            kept = json.loads(job.path.read_text(encoding="utf-8"))
            found.setdefault(name, []).append(kept)
    return found


def _opened(job: Job, folder: Path, registry: Registry) -> Town:
    return open_town(job.config(registry), REGIMES["frozen"], folder)


def tables(found: Mapping[str, Sequence[Figures]]) -> str:
    """Return the tables of all models, whose figures are by town; accuracies in %."""
    parts = []
    for kind in KINDS:
        for what, heading, values in (
            ("dimensions", "dimensions", [f"{size}" for size in _sizes(found, kind)]),
            ("spacings", "spacing (m)", [f"{value:g}" for value in SPACINGS_M]),
        ):
            rows = []
            for name, towns in found.items():
                means = [
                    statistics.mean(column)
                    for column in zip(*(town[kind][what] for town in towns), strict=True)
                ]
                full = means[-1] if what == "dimensions" else means[0]
                cells = [f"{100 * mean:.1f} ({100 * mean / full:.0f})" for mean in means]
                rows.append([name, *cells])
            if what == "spacings":
                bounds = zip(*(town[kind]["bound"] for town in towns), strict=True)
                rows.append(
                    ["upper bound", *(f"{100 * statistics.mean(b):.1f}" for b in bounds)]
                )
            whole = "all dimensions" if what == "dimensions" else "all references"
            title = f"## By {heading}, {kind} (%; in brackets: % of that with {whole})"
            parts.append(f"{title}\n\n{common.markdown_table(['model', *values], rows)}")
    return "\n\n".join(parts)


def _sizes(found: Mapping[str, Sequence[Figures]], kind: str) -> list[int]:
    """Return the dimensions that the columns have: the fewest of any model and town."""
    every = [town[kind]["sizes"] for towns in found.values() for town in towns]
    assert all(sizes == every[0] for sizes in every), every
    return [int(size) for size in every[0]]


def main(argv: Sequence[str]) -> int:
    """Run the benchmark."""
    parser = common.parser(__file__, __doc__ or "")
    parser.add_argument("--runs", type=Path, default=Path("runs/dimensions"), metavar="DIR")
    parser.add_argument("--minutes", type=float, default=90.0, help="begin no model after that")
    options = parser.parse_args(argv)
    study = Study(
        runs=options.runs / "quick" if options.quick else options.runs,
        towns=TOWNS[:1] if options.quick else TOWNS,
        losses=dict([*LOSSES.items()][: 1 if options.quick else None]),
        words=(
            *REGIMES["frozen"].options(),
            *(QUICK_TOWN if options.quick else ()),
        ),
        steps=2 if options.quick else REGIMES["frozen"].max_steps,
        deadline=time.monotonic() + 60 * options.minutes,
        registry=Registry.discover(),
    )
    if options.quick:
        shutil.rmtree(study.runs, ignore_errors=True)
    torch.set_num_threads(1)
    try:
        found = collect(study)
    except OutOfTimeError:
        print("not finished: give the same command to continue; there is no table before")
        return 0
    common.report(
        __file__,
        __doc__ or "",
        tables(found),
        options=options,
        argv=[word for word in argv if word in ("--quick", "--save")],
        method=f"one thread; top-1 accuracy within {THRESHOLD_M:g} m, mean over conditions and "
        f"towns {', '.join(map(str, study.towns))}; one seed; components fitted to at most "
        f"{FITTED_IMAGES:,} training images",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
