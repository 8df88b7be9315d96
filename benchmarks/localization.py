"""Localization accuracy of the proposed loss, the paper's baselines and stock losses.

``mlcore compare`` on a town: identical tuples and budget for every loss, a learning rate for
each chosen on validation, several seeds. Two processes share the losses; a run that is there
already is not repeated, so that more seeds add to what ``--work`` holds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from benchmarks import _common as common

DURATION = "about 60 minutes for 5 seeds"

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
NUM_PROCESSES = 2


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; unknown options go to ``mlcore compare``."""
    parser = common.parser(__file__, __doc__ or "")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="seeds of training")
    parser.add_argument("--max-steps", type=int, default=1000, help="steps of a run")
    parser.add_argument(
        "--work",
        type=Path,
        default=common.ROOT / "runs" / "benchmark-localization",
        help="folder of the comparison",
    )
    options, more = parser.parse_known_args(argv)
    losses = PAPER + STOCK
    common_words = [
        *("--seeds", options.seeds, "--learning-rates", "1e-3,3e-3"),
        *("--training.max_steps", str(options.max_steps), "--out", str(options.work)),
        *more,
    ]
    if options.quick:
        losses = PAPER[:2] + STOCK[:1]
        shutil.rmtree(options.work.with_name("quick"), ignore_errors=True)
        common_words = [
            *("--seeds", "0", "--training.max_steps", "20"),
            *("--out", str(options.work.with_name("quick"))),
            *("--dataset.train_length_m", "400", "--dataset.test_length_m", "200"),
        ]
    elif options.device == "cuda":
        common_words += ["--training.accelerator", "gpu"]
    _run_shares(losses, common_words)
    table = _compare(losses, common_words, stdout=subprocess.PIPE)
    out, _ = table.communicate()
    if table.returncode:
        return table.returncode
    _report(out, options, argv)
    return 0


def _run_shares(losses: Sequence[str], words: Sequence[str]) -> None:
    """Let each process run its share of the losses."""
    shares = [losses[number::NUM_PROCESSES] for number in range(NUM_PROCESSES)]
    workers = [_compare(share, words, stdout=subprocess.DEVNULL) for share in shares]
    codes = [worker.wait() for worker in workers]
    if any(codes):
        raise SystemExit(max(codes))


def _compare(
    losses: Sequence[str], words: Sequence[str], *, stdout: int
) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "mlcore", "compare", "--losses", ",".join(losses), *words],
        stdout=stdout,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def _report(table: str, options: Namespace, argv: Sequence[str]) -> None:
    lines = [line.rstrip() for line in table.splitlines() if line.strip()]
    picture = ""
    if options.save:
        shutil.copy(options.work / "metres.png", common.RESULTS / "localization.png")
        shutil.copy(options.work / "comparison.json", common.RESULTS / "localization.json")
        picture = "\n\n![metres curves](localization.png)"
    common.report(
        __file__,
        __doc__ or "",
        "```text\n" + "\n".join(lines) + "\n```" + picture,
        options=options,
        argv=argv,
        method="mean over seeds ± half a 95 % interval (Student's t); differences: percentile "
        "bootstrap over queries",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
