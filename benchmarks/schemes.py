"""Tuples, places and cliques: batches of equal size from two towns, tested on a third.

``mlcore compare`` trains on the towns of seeds 0 and 1 with the learning rate of each row
chosen on their validation districts; each run is then evaluated on the test district of the
town of seed 2, of which it has seen nothing. Every step has 100 images: 4 tuples of 25, or 25
places of 4. Batches of one scheme are the same for every loss. Embeddings are whitened on
training images of the town they are evaluated in, without positions. Runs and evaluations
that the folder holds are not repeated: ``--schemes``, ``--losses`` and ``--seeds`` add to it
piece by piece. Unknown options go to ``mlcore compare``.
"""

from __future__ import annotations

import json
import shutil
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import mlcore
from benchmarks import _common as common
from benchmarks.regimes.towns import QUICK_TOWN
from mlcore.cli import console
from mlcore.cli.comparison_folder import ComparisonFolder
from mlcore.evaluation.comparison import Entry
from mlcore.evaluation.documents import from_document
from mlcore.evaluation.results import Evaluation
from mlcore.options.engine import SamplingOptions
from mlcore.reporting.comparison import comparison_tables

DURATION = "about 30 minutes on 2 cores; a run takes at most a minute"

CONFIG = Path(__file__).parent / "configs" / "three_towns.toml"
THIRD_TOWN = {"name": "streets 1", "town_seed": 2}
"""The options of the first town of a run, but for its seed."""
QUICK = (
    *("--training.max_steps", "3", *QUICK_TOWN),
    *("--sampling.tuples_per_batch", "1", "--sampling.places_per_batch", "6"),
)


def main(argv: Sequence[str]) -> int:
    """Run the benchmark."""
    parser = common.parser(__file__, __doc__ or "")
    parser.add_argument(
        "--schemes", default="tuples,places,cliques", help="schemes; the first is compared with"
    )
    parser.add_argument(
        "--losses", default="proposed,pml-triplet-margin,pml-nt-xent", help="losses of each"
    )
    parser.add_argument("--seeds", default="0,1,2", help="seeds of training")
    parser.add_argument(
        "--learning-rates", default="3e-4,1e-3,3e-3,1e-2", help="rates to choose from"
    )
    parser.add_argument("--max-steps", type=int, default=200, help="steps per run")
    parser.add_argument("--parallel", type=int, default=2, help="runs at the same time")
    options, more = parser.parse_known_args(argv)
    if options.quick and options.save:
        parser.error("--quick shows that it works; there is nothing to --save")
    schemes = options.schemes.split(",")
    known = get_args(get_type_hints(SamplingOptions)["scheme"])
    if options.quick:
        schemes = [scheme for scheme in schemes if scheme in known]
    _require_known(parser, schemes, known)
    work = Path("runs") / ("benchmark-schemes-quick" if options.quick else "benchmark-schemes")
    if options.quick:
        shutil.rmtree(work, ignore_errors=True)
    words = [*_words(options, schemes, work), *more]
    done = common.compare(words)
    if done.returncode:
        return done.returncode
    entries = _on_third_town(ComparisonFolder(work))
    tables = [done.stdout, console.as_text(comparison_tables(entries, entries[0]))]
    _report(tables, options, argv)
    return 0


def _require_known(
    parser: ArgumentParser, schemes: Iterable[str], known: Sequence[str]
) -> None:
    for scheme in schemes:
        if scheme not in known:
            parser.error(
                f"this version has no --sampling.scheme {scheme}; give --schemes with some of "
                f"{','.join(known)}"
            )


def _words(options: Namespace, schemes: Sequence[str], work: Path) -> list[str]:
    parallel = 1 if options.quick else options.parallel
    words = ["--config", str(CONFIG), "--out", str(work), "--parallel", str(parallel)]
    words += ["--vary", f"sampling.scheme={','.join(schemes)}"]
    if options.device == "cuda":
        words += ["--training.accelerator", "gpu"]
    if options.quick:
        return [*words, "--losses", "proposed", "--seeds", "0", *QUICK]
    return [
        *words,
        *("--losses", options.losses, "--seeds", options.seeds),
        *("--learning-rates", options.learning_rates),
        *("--training.max_steps", str(options.max_steps)),
    ]


def _on_third_town(folder: ComparisonFolder) -> list[Entry]:
    """Return the rows of a comparison as the third town evaluates them, baselines last."""
    found: dict[str, dict[int, Evaluation]] = {}
    rates: dict[str, float] = {}
    names = list(json.loads(folder.plan.read_text()))
    for name in names:
        for seed, task in folder.tasks(name).items():
            rates[name] = task.learning_rate
            out = task.out / "third_town.json"
            if not out.exists():
                mlcore.evaluate(task.out, out=out, dataset=THIRD_TOWN)
            for result in from_document(json.loads(out.read_text())):
                shown = name if result.model == "trained" else result.model
                found.setdefault(shown, {})[seed] = replace(result, model=shown)
    rows = [name for name in names if name in found]
    others = [name for name in found if name not in names]
    return [
        Entry(name=name, evaluations=found[name], learning_rate=rates.get(name))
        for name in (*rows, *others)
    ]


def _report(tables: Sequence[str], options: Namespace, argv: Sequence[str]) -> None:
    titles = ("Test districts of the two towns trained in", "The third town")
    blocks = []
    for title, table in zip(titles, tables, strict=True):
        lines = [line.rstrip() for line in table.splitlines() if line.strip()]
        blocks.append(f"## {title}\n\n```text\n" + "\n".join(lines) + "\n```")
    common.report(
        __file__,
        __doc__ or "",
        "\n\n".join(blocks),
        options=options,
        argv=argv,
        method="mean over seeds ± half a 95 % interval (Student's t); differences: percentile "
        "bootstrap over seeds and queries",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
