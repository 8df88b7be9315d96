"""A sweep over dimensions and spacings: time and memory once images are embedded.

The form that issue and paper ask for: 7 dimensions up to 4096, 4 spacings, 4 conditions, for
10,000 references and 2,000 queries. Random embeddings whose variance falls by direction, as
embeddings' does. Memory is what the process holds at most beyond the embeddings it was given.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import _common as common
from mlcore.protocols import PlaceTable, Split
from mlcore.settings import EvaluationOptions
from mlcore.sweeping import EmbeddedSplit, sweep
from mlcore.whitening import fit_whitening

DURATION = "10 minutes"

CONDITIONS = ("overcast", "sun", "night", "snow")
SPACINGS_M = (0.0, 0.3, 1.0, 5.0)


def main(argv: Sequence[str]) -> int:
    """Run the benchmark. ``--one`` measures in this process, for a peak of its own."""
    parser = common.parser(__file__, __doc__ or "")
    parser.add_argument("--references", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=2_000)
    parser.add_argument("--dimensions", type=int, default=4096)
    parser.add_argument("--one", action="store_true", help="measure, print JSON")
    options = parser.parse_args(argv)
    if options.quick:
        options.references, options.queries, options.dimensions = 500, 100, 128
    sizes = (options.references, options.queries, options.dimensions)
    if options.one:
        print(json.dumps(one_sweep(*sizes)))
        return 0
    found = _measured(*sizes)
    rows = [
        (part, f"{found[key]:.1f} s", f"{found[f'{key}_bytes'] / 2**20:.0f} MiB")
        for part, key in (
            ("fit whitening for the largest dimension, once", "fit"),
            ("whiten references and queries, once", "whiten"),
            (f"{found['settings']:.0f} settings, each searched and judged", "sweep"),
        )
    ]
    title = (
        f"{sizes[0]:,} references, {sizes[1]:,} queries of {len(CONDITIONS)} conditions, "
        f"{sizes[2]} dimensions ({found['given'] / 2**20:.0f} MiB of embeddings), whitening "
        f"fitted on {found['fitted_on']:.0f}\n\n"
    )
    common.report(
        __file__,
        __doc__ or "",
        title
        + common.markdown_table(["part", "time", "peak memory beyond what was given"], rows),
        options=options,
        argv=argv,
        method="one run in a process of its own",
    )
    return 0


def one_sweep(num_references: int, num_queries: int, size: int) -> dict[str, float]:
    """Return seconds and peak bytes of each part."""
    num_fitted = 4 * size
    draw = np.random.default_rng(0)
    scale = (1.0 + np.arange(size)).astype(np.float32) ** -0.5
    fitted, references, queries = (
        scale * draw.standard_normal((number, size), dtype=np.float32)
        for number in (num_fitted, num_references, num_queries)
    )
    queries += references[draw.integers(0, num_references, num_queries)]
    found: dict[str, float] = {
        "given": fitted.nbytes + references.nbytes + queries.nbytes,
        "fitted_on": num_fitted,
    }
    before = _held()

    def note(part: str, start: float) -> None:
        found[part] = time.perf_counter() - start
        found[f"{part}_bytes"] = (
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
        )

    start = time.perf_counter()
    whitening = fit_whitening(fitted, size, source="train")
    note("fit", start)
    start = time.perf_counter()
    embedded = EmbeddedSplit(
        split=Split(
            references=_table(num_references, 0.2, ("overcast",)),
            queries=_table(num_queries, 0.2 * num_references / num_queries, CONDITIONS),
        ),
        references=whitening(references),
        queries=whitening(queries),
        whitening="train",
        whitening_images=num_fitted,
    )
    note("whiten", start)
    start = time.perf_counter()
    dimensions = [max(1, size >> shift) for shift in range(7)]
    results = sweep(
        embedded, EvaluationOptions(), dimensions=dimensions, spacings_m=SPACINGS_M, name="m"
    )
    note("sweep", start)
    return {**found, "settings": len(results)}


def _table(number: int, step_m: float, conditions: tuple[str, ...]) -> PlaceTable:
    along = step_m * np.arange(number)
    return PlaceTable(
        index=np.arange(number),
        positions_m=np.stack([along, np.zeros(number)], axis=1),
        traversal=np.zeros(number, dtype=np.int64),
        traversals=("t",),
        condition=np.arange(number) % len(conditions),
        conditions=conditions,
    )


def _held() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def _measured(*sizes: int) -> dict[str, float]:
    names = ("--references", "--queries", "--dimensions")
    words = [
        word for name, value in zip(names, sizes, strict=True) for word in (name, str(value))
    ]
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "benchmarks.sweep", "--one", *words],
        cwd=common.ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
