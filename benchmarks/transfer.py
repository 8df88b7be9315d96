"""ImageNet weights on two small sets of photographs: Stromovka and the corridor.

Pooling and learning rate are chosen on the training frames of Stromovka alone: each of three
blocks of 20 frames is the test of a run on the other two. The choice then runs unchanged on the
test frames of both sets, three seeds each. Runs that have an evaluation are not repeated.

Whitening is left to ``--evaluation.whitening auto``: fitted to the training images if there are
four per dimension, else left out. The table says which.
"""

from __future__ import annotations

import csv
import itertools
import json
import statistics
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import _common as common
from mlcore.cli.main import main as mlcore

DURATION = "40 minutes on 2 cores"

POOLINGS = ("grid", "average")
LEARNING_RATES = ("1e-4", "2e-5")
NUM_BLOCKS = 3
BLOCK_FRAMES = 20
ROWS = {"pixels": "pixels", "untrained": "off the shelf", "trained": "tuned"}
EXAMPLES = {"stromovka": "stromovka-pretrained.toml", "corridor": "corridor.toml"}


def main(argv: Sequence[str]) -> int:
    """Run the benchmark."""
    parser = common.parser(__file__, __doc__ or "")
    parser.add_argument("--data", type=Path, help="folder of stromovka/ and corridor/")
    parser.add_argument("--runs", type=Path, default=Path("runs/transfer"))
    parser.add_argument("--seeds", default="0,1,2")
    options = parser.parse_args(argv)
    if options.data is None:
        print("give --data: the photographs may not be distributed with mlcore")
        return 0 if options.quick else 2
    if options.quick:  # runs of two steps must not be taken for whole ones
        options.runs /= "quick"
    seeds = [int(seed) for seed in options.seeds.split(",")][: 1 if options.quick else None]
    steps = ["--training.max_steps", "2"] if options.quick else []
    chosen, rows = _choose(options, steps)
    for name in EXAMPLES:
        words = [*_example(name, options.data), *_words(*chosen), *steps]
        found = [_run(options.runs / f"{name}-{s}", [*words, "--seed", str(s)]) for s in seeds]
        rows += [
            (f"{name}, test", *chosen, label, *_figures([one[row] for one in found]))
            for row, label in ROWS.items()
        ]
    columns = (
        "frames",
        "pooling",
        "learning rate",
        "model",
        "whitening",
        "Recall@1, 2 m (%)",
        "area to 25 m (%)",
    )
    common.report(
        __file__,
        __doc__ or "",
        common.markdown_table(columns, rows),
        options=options,
        argv=argv,
        method="mean and standard deviation over blocks or seeds",
    )
    return 0


def _choose(options: Namespace, steps: Sequence[str]) -> tuple[tuple[str, str], list[Any]]:
    """Return pooling and rate with the best tuned recall on blocks left out, and the rows."""
    rows, recall = [], {}
    tables = [_without_block(options, block) for block in range(NUM_BLOCKS)]
    for chosen in itertools.product(POOLINGS, LEARNING_RATES):
        found = []
        for block, table in enumerate(tables):
            words = [*_example("stromovka", options.data), *_words(*chosen), *steps]
            words += ["--dataset.table", str(table), "--dataset.train", "split=train"]
            words += ["--dataset.test", "split=test"]
            folder = options.runs / f"block-{'-'.join(chosen)}-{block}"
            found.append(_run(folder, words))
        recall[chosen] = statistics.mean(one["trained"].recall for one in found)
        rows += [
            (
                "stromovka, blocks of training",
                *chosen,
                label,
                *_figures([one[row] for one in found]),
            )
            for row, label in ROWS.items()
        ]
    return max(recall, key=recall.__getitem__), rows


def _words(pooling: str, learning_rate: str) -> list[str]:
    return ["--pooling", pooling, "--training.learning_rate", learning_rate]


def _without_block(options: Namespace, block: int) -> Path:
    """Write a table of the training frames whose test is one block of them."""
    path: Path = (options.runs / f"block-{block}.csv").absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with (options.data / "stromovka" / "positions.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if int(r["frame"]) < NUM_BLOCKS * BLOCK_FRAMES]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "split"])
        writer.writeheader()
        for row in rows:
            is_test = int(row["frame"]) // BLOCK_FRAMES == block
            writer.writerow(row | {"split": "test" if is_test else "train"})
    return path


def _example(name: str, data: Path) -> list[str]:
    config = common.ROOT / "examples" / EXAMPLES[name]
    return ["--config", str(config), "--dataset.root", str(data / name)]


class Found(NamedTuple):
    """Figures of one model of one run: percentages, and how it was whitened."""

    recall: float
    area: float
    whitening: str


def _run(folder: Path, words: Sequence[str]) -> dict[str, Found]:
    """Train unless it is done; return the figures by model."""
    evaluation = folder / "evaluation.json"
    if not evaluation.is_file():
        status = mlcore(["train", *words, "--out", str(folder)])
        if status:
            raise SystemExit(status)
    found = {}
    for one in json.loads(evaluation.read_text())["evaluations"]:
        overall = one["summary"]["overall"]
        found[one["model"]] = Found(
            100 * overall["recall"]["1"], 100 * overall["area"]["25"], _whitening(one)
        )
    return found


def _whitening(evaluation: Mapping[str, Any]) -> str:
    source, num_images = evaluation["whitening"], evaluation["whitening_images"]
    return source if source == "none" else f"{source}, {num_images} images"


def _figures(values: Sequence[Found]) -> tuple[str, str, str]:
    whitening = ", ".join(sorted({one.whitening for one in values}))
    return (
        whitening,
        _mean([one.recall for one in values]),
        _mean([one.area for one in values]),
    )


def _mean(values: Sequence[float]) -> str:
    spread = f" ± {statistics.stdev(values):.1f}" if len(set(values)) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
