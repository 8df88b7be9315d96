"""Losses on three small sets of real photographs, from ImageNet weights: who can be told apart?

EfficientNet-Lite0 stays frozen below cached features; a head or its last blocks are trained.
Learning rate and constant of each loss are chosen on blocks of the training photographs that
are left out in turn, with as many tries for every loss; the test is seen once, by that choice.
Runs are kept: the same command continues.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.functional import normalize

from benchmarks import _common as common
from benchmarks._photograph_tables import Choice, Part, tabulated
from benchmarks._photographs import (
    LITE0,
    NUM_BLOCKS,
    SETS,
    TRAINED,
    Photographs,
    Trained,
    WithoutBlock,
    named,
)
from benchmarks.regimes.plan import OFF_THE_SHELF, OutOfTimeError, best
from benchmarks.regimes.rows import REGIMES, Row, Setting
from benchmarks.regimes.runs import PLAIN, Job, Result, embed, evaluate, keep, kept, run
from benchmarks.regimes.statistics import RESAMPLES
from benchmarks.regimes.towns import TopOfNetwork, Town, open_town
from mlcore.evaluation.results import Evaluation
from mlcore.experiment import assemble
from mlcore.models.networks import Network
from mlcore.models.pixels import PixelModel
from mlcore.options import RunConfig, parse_run
from mlcore.registry.discovery import Registry

DURATION = "25 minutes on 1 core, for heads"
PIXELS = "pixels"


@dataclass(frozen=True, kw_only=True)
class PhotoJob(Job):
    """One run on photographs; it has no town."""

    town: int = 0

    def config(self, registry: Registry) -> RunConfig:
        """Return its configuration, whose folder of photographs is not used."""
        return parse_run([*self.options, "--seed", str(self.seed)], registry)


class Study(NamedTuple):
    """What all runs of one call share."""

    options: Namespace
    seeds: tuple[int, ...]
    steps: int | None
    deadline: float
    registry: Registry

    def words(self, photographs: Photographs, trained: Trained) -> tuple[str, ...]:
        """Return the options of a run without those of its loss."""
        steps = ("--training.max_steps", str(self.steps or trained.regime.max_steps))
        return (*photographs.words(), *trained.regime.options(), *steps)

    def opened(self, photographs: Photographs, blocks: int | None) -> Town:
        """Return a set with what is cached below the trained blocks; None: its pixels."""
        root = common.ROOT / "examples" / photographs.name
        if not photographs.in_repository:
            root = self.options.data / photographs.name
        return _opened(photographs, root, blocks, self.options.runs, self.registry)


@lru_cache(maxsize=2)
def _opened(
    photographs: Photographs, root: Path, blocks: int | None, folder: Path, registry: Registry
) -> Town:
    words = [*photographs.words(), *LITE0, "--dataset.root", str(root)]
    regime = replace(REGIMES["frozen"], words=LITE0, blocks=blocks)
    if blocks is None:  # the pixels that the network sees, under another name of the cache
        regime = replace(regime, words=("pixels",))
    return open_town(parse_run(words, registry), regime, folder / "features")


def done(study: Study, job: PhotoJob, trained: Trained, town: Town) -> Result:
    """Return the result of a run, doing it if it is not kept.

    Raises:
        OutOfTimeError: It is not kept, and there is no time.
    """
    result = kept(job)
    if result is None:
        if time.monotonic() > study.deadline:
            raise OutOfTimeError
        result = run(job, trained.regime, town, study.registry)
        keep(job, result)
        print(f"{job.path.relative_to(study.options.runs)} {result.seconds:.1f} s", flush=True)
    return result


def settings_of(
    study: Study, photographs: Photographs, trained: Trained, row: Row
) -> dict[Setting, float]:
    """Return the mean area on blocks left out by each try of a loss; -1 if one diverged."""
    town = study.opened(photographs, trained.regime.blocks)
    folder = study.options.runs / photographs.name / trained.name / "search" / row.name
    found = {}
    for setting in trained.tries(row):
        areas = []
        for block in range(NUM_BLOCKS):
            job = PhotoJob(
                row=row.name,
                path=folder / f"{setting.learning_rate} {setting.value} {block}.json",
                options=(*study.words(photographs, trained), *row.options(setting)),
                seed=0,
                splits=("validation",),
            )
            left = replace(town, dataset=WithoutBlock(town.dataset, block))
            result = done(study, job, trained, left)
            one = result.evaluations.get(("validation", PLAIN))
            areas.append(-1.0 if one is None else one.area(photographs.area_limit_m))
        found[setting] = min(areas) if min(areas) < 0 else statistics.mean(areas)
    return found


def tested(
    study: Study, photographs: Photographs, trained: Trained, row: Row, setting: Setting
) -> list[Result]:
    """Return the results on test of a loss with its chosen setting, by seed."""
    town = study.opened(photographs, trained.regime.blocks)
    folder = study.options.runs / photographs.name / trained.name / row.name
    return [
        done(
            study,
            PhotoJob(
                row=row.name,
                path=folder / f"seed-{seed}.json",
                options=(*study.words(photographs, trained), *row.options(setting)),
                seed=seed,
                splits=("test",),
            ),
            trained,
            town,
        )
        for seed in study.seeds
    ]


def untrained(study: Study, photographs: Photographs, trained: Trained) -> dict[str, Result]:
    """Return the results on test of the pixels, and of the features off the shelf."""
    frozen = replace(trained.regime, words=(*LITE0, *trained.untrained), blocks=0)
    words = (*photographs.words(), *frozen.options())
    folder = study.options.runs / photographs.name
    found = {}
    for name, blocks in ((PIXELS, None), (OFF_THE_SHELF, 0)):
        path = folder / f"{name} {trained.untrained[1]}.json"
        job = PhotoJob(row=name, path=path, options=words, seed=0, splits=("test",))
        result = kept(job)
        if result is None:
            town = study.opened(photographs, blocks)
            config = job.config(study.registry)
            model: nn.Module = PixelModel()
            if blocks is not None:
                model = assemble(config, dataset=town.dataset, data_notes=()).model
            assert isinstance(model, Network | PixelModel)
            network = TopOfNetwork(model.eval(), blocks)  # type: ignore[arg-type]
            result = Result(evaluate(network, town, config.evaluation, job.splits), "", 0.0)
            keep(job, result)
        found[name] = result
    return found


def part(study: Study, photographs: Photographs, trained: Trained, rows: Sequence[Row]) -> Part:
    """Return the results on one set of training one part of the network.

    Raises:
        OutOfTimeError: Not all runs are done.
    """
    chosen: dict[str, Choice] = {}
    evaluations: dict[str, list[Evaluation]] = {}
    diverged = []
    for row in rows:
        areas = settings_of(study, photographs, trained, row)
        chosen[row.name] = Choice(best(areas), row, max(areas.values()))
        results = tested(study, photographs, trained, row, chosen[row.name].setting)
        if any(one.failure for one in results):
            diverged.append(row.name)
        else:
            evaluations[row.name] = [one.evaluations["test", PLAIN] for one in results]
    for name, result in untrained(study, photographs, trained).items():
        evaluations[name] = [result.evaluations["test", PLAIN]]
    return tabulated(photographs, trained, evaluations, chosen, diverged)


def main(argv: Sequence[str]) -> int:
    """Run the benchmark."""
    parser = common.parser(__file__, __doc__ or "")
    parser.add_argument("--data", type=Path, help="folder of stromovka/ and corridor/")
    parser.add_argument("--runs", type=Path, default=Path("runs/photographs"), metavar="DIR")
    parser.add_argument("--sets", help="some of the sets, separated by commas")
    parser.add_argument("--trained", help="some of what is trained, separated by commas")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--minutes", type=float, default=90.0, help="begin no run after that")
    options = parser.parse_args(argv)
    try:
        sets, parts = named(options.sets, SETS), named(options.trained, TRAINED)
    except ValueError as error:
        parser.error(str(error))
    if options.data is None:
        left_out = [one.name for one in sets if not one.in_repository]
        if left_out and not options.quick:
            parser.error(f"give --data for {', '.join(left_out)}, or --sets seneca")
        sets = [one for one in sets if one.in_repository]
    if options.quick:
        options.runs /= "quick"
        shutil.rmtree(options.runs, ignore_errors=True)
        parts = [replace(parts[0], learning_rates=("1e-3",))]
    torch.set_num_threads(1)
    study = Study(
        options=options,
        seeds=tuple(map(int, options.seeds.split(",")))[: 1 if options.quick else None],
        steps=2 if options.quick else None,
        deadline=time.monotonic() + 60 * options.minutes,
        registry=Registry.discover(),
    )
    try:
        body = _body(study, sets, parts)
    except OutOfTimeError:
        print("not finished: give the same command to continue; there is no table before")
        return 0
    common.report(
        __file__,
        __doc__ or "",
        body,
        options=options,
        argv=_portable(argv),
        method="one thread; mean and standard deviation over seeds; embeddings are not "
        f"whitened; paired percentile bootstrap over seeds and queries, {RESAMPLES:,} "
        "resamples; p-values adjusted by Holm for the rows of one table",
    )
    return 0


def similarities(study: Study, photographs: Photographs, trained: Trained) -> tuple[str, str]:
    """Return mean and deviation of the cosines that training starts from: near pairs, far ones.

    Near pairs of training photographs are closer than the near radius, far ones at least twice
    as far apart.
    """
    town = study.opened(photographs, trained.regime.blocks)
    words = [*study.words(photographs, trained), "--loss", "proposed"]
    config = parse_run(words, study.registry)
    model = assemble(config, dataset=town.dataset, data_notes=()).model.eval()
    assert isinstance(model, Network)
    train = town.dataset.train
    tables = (train.references, train.queries)
    network = TopOfNetwork(model, trained.regime.blocks)
    unit = normalize(
        torch.from_numpy(embed(network, town, np.concatenate([t.index for t in tables])))
    )
    positions_m = torch.from_numpy(np.concatenate([t.positions_m for t in tables]))
    distance_m = torch.cdist(positions_m, positions_m)
    radius_m = config.sampling.near_radius_m or 0.0
    other = ~torch.eye(len(unit), dtype=torch.bool)
    near, far = (distance_m < radius_m) & other, distance_m >= 2 * radius_m
    cosine = unit @ unit.T
    shown = [(float(cosine[rows].mean()), float(cosine[rows].std())) for rows in (near, far)]
    return tuple(f"{mean:.2f} ± {deviation:.2f}" for mean, deviation in shown)  # type: ignore[return-value]


def _body(study: Study, sets: Sequence[Photographs], parts: Sequence[Trained]) -> str:
    sections, summary = [], []
    for trained in parts:
        for photographs in sets:
            if photographs.name not in trained.sets:
                continue
            rows = photographs.rows()[: 2 if study.options.quick else None]
            found = part(study, photographs, trained, rows)
            sections.append(found.text)
            queries = len(study.opened(photographs, None).dataset.test.queries)
            summary.append(
                [
                    trained.name,
                    photographs.name,
                    queries,
                    f"{100 / queries:.1f}",
                    *similarities(study, photographs, trained),
                    f"±{found.half_width:.1f}",
                    f"{found.num_apart} of {found.num_trained}",
                ]
            )
    heading = [
        "trained",
        "set",
        "queries",
        "one query (points of R@1)",
        "cosine of near pairs at the start",
        "of far pairs",
        "interval of a difference in area (median)",
        "trained losses whose interval leaves out 0",
    ]
    return "\n\n".join(
        ["## What can be told apart", common.markdown_table(heading, summary), *sections]
    )


def _portable(argv: Sequence[str]) -> list[str]:
    """Return the arguments without folders of this machine."""
    places = {"--data": "DATA", "--runs": "RUNS"}
    words = list(argv)
    for position, word in enumerate(argv[:-1]):
        if word in places:
            words[position + 1] = places[word]
    return words


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
