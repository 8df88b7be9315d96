"""Localization accuracy of the proposed loss, the paper's baselines and stock losses.

``mlcore compare`` on a town: identical tuples and budget for every loss, a learning rate for
each chosen on validation, several seeds. A run that the folder of the comparison or the one
of its results holds is not repeated, so that more seeds and losses add to what is there.
Unknown options go to ``mlcore compare``; of a comparison with such options only the table is
kept.

``--regime scratch|frozen|tuned`` compares more losses, graded ones among them, on several
towns: see :mod:`benchmarks.regimes`. There, unknown options go to every run.
"""

from __future__ import annotations

import json
import shutil
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import _common as common
from benchmarks.regimes import main as regimes
from benchmarks.regimes.towns import QUICK_TOWN

DURATION = (
    "about an hour for 5 seeds on 2 cores, 100 minutes beside other work; in a regime, on one "
    "core, frozen an hour, tuned half an hour, scratch three hours"
)

PAPER = [
    "proposed",
    "proposed+step",
    "triplet",
    "lazy-triplet",
    "hard-positive-triplet",
    "quadruplet",
    "lazy-quadruplet",
    "triplet-huber",
    "log-ratio",
    "multi-similarity-paper",
    "generalized-contrastive",
]
STOCK = [
    "pml-contrastive",
    "pml-triplet-margin",
    "pml-nt-xent",
    "pml-circle",
    "pml-multi-similarity",
    "pml-proxy-anchor",
]


def main(argv: Sequence[str]) -> int:
    """Run the benchmark."""
    parser = common.parser(__file__, __doc__ or "")
    parser.add_argument(
        "--name", metavar="NAME", help="save the result separately, as localization_NAME"
    )
    parser.add_argument("--losses", help="rows of the table (default: all)")
    parser.add_argument(
        "--seeds", help="seeds of training (default: 0,1,2,3,4, or the regime's)"
    )
    parser.add_argument(
        "--learning-rates",
        default="3e-4,1e-3,3e-3,1e-2",
        help="rates to choose from for each row; none: use --training.learning_rate",
    )
    parser.add_argument("--max-steps", type=int, help="steps per run (default: 1000)")
    parser.add_argument("--parallel", type=int, default=2, help="runs at the same time")
    regimes.add_options(parser)
    options, more = parser.parse_known_args(argv)
    regimes.check(parser, options)
    if options.quick and options.save:
        parser.error("--quick shows that it works; there is nothing to --save")
    if (options.regime or options.search_ours) and not options.quick:
        return regimes.main(options, more, argv)
    result = "_".join(filter(None, (common.name_of(__file__), options.name)))
    work = Path("runs") / f"benchmark-{result}"
    kept = common.RESULTS / result
    words = [
        *("--losses", options.losses or ",".join(PAPER + STOCK)),
        *("--seeds", options.seeds or "0,1,2,3,4"),
        *("--training.max_steps", str(options.max_steps or 1000)),
        *("--parallel", str(options.parallel), "--out", str(work), *more),
    ]
    if options.learning_rates != "none":
        words += ["--learning-rates", options.learning_rates]
    if options.device == "cuda":
        words += ["--training.accelerator", "gpu"]
    if options.quick:
        words = _quick_words(work.with_name("quick"))
    elif not work.exists() and kept.exists():
        shutil.copytree(kept, work)
    done = common.compare(words)
    if done.returncode:
        return done.returncode
    picture = ""
    if options.save and not more:
        _keep(work, kept)
        picture = f"\n\n![metres curves]({kept.name}.png)"
    _report(done.stdout, picture, kept.name, options, argv)
    if options.quick:
        regimes.quick(options, argv)
    return 0


def _quick_words(out: Path) -> list[str]:
    shutil.rmtree(out, ignore_errors=True)
    return [
        *("--losses", ",".join([*PAPER[:2], STOCK[0]]), "--out", str(out)),
        *("--training.max_steps", "4", *QUICK_TOWN),
    ]


def _keep(work: Path, kept: Path) -> None:
    """Keep of each run what makes its row: no checkpoints, pictures and logs."""
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    shutil.copy(work / "plan.json", kept)
    for path in sorted(work.glob("*/*/environment.json")):
        folder = kept / path.parent.relative_to(work)
        folder.mkdir(parents=True)
        environment = json.loads(path.read_text())
        for key in ("command", "platform", "notes"):
            del environment[key]
        _write(folder / path.name, environment)
        for name in ("evaluation.json", "failure.json"):
            if path.with_name(name).exists():
                _write(folder / name, _rounded(json.loads(path.with_name(name).read_text())))
    shutil.copy(work / "metres.png", kept.with_suffix(".png"))


def _rounded(value: Any) -> Any:
    """Return a document with its numbers to a micrometre, which no threshold resolves."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return value


def _write(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, separators=(",", ":")) + "\n")


def _report(
    table: str, picture: str, result: str, options: Namespace, argv: Sequence[str]
) -> None:
    lines = [line.rstrip() for line in table.splitlines() if line.strip()]
    common.report(
        __file__,
        __doc__ or "",
        "```text\n" + "\n".join(lines) + "\n```" + picture,
        options=options,
        argv=argv,
        result=result,
        method="mean over seeds ± half a 95 % interval (Student's t); differences: percentile "
        "bootstrap over seeds and queries",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
