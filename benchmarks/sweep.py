"""A sweep over dimensions and spacings, and t-SNE: time and memory once images are embedded.

A form of the paper's size: 7 dimensions up to 4096, 4 spacings, 4 conditions, for
10,000 references and 2,000 queries. Random embeddings whose variance falls by direction, as
embeddings' does; for t-SNE, 20,000 embeddings along a curve. Memory is what the process holds
at most beyond the embeddings it was given.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks import _common as common
from mlcore.evaluation.projection import project
from mlcore.evaluation.sweeps import EmbeddedSplit, sweep
from mlcore.options.engine import EvaluationOptions
from mlcore.protocols import PlaceTable, Split
from mlcore.retrieval.whitening import fit_whitening

DURATION = "10 minutes"

CONDITIONS = ("overcast", "sun", "night", "snow")
SPACINGS_M = (0.0, 0.3, 1.0, 5.0)
TSNE_DIMENSIONS = 256


def main(argv: Sequence[str]) -> int:
    """Run the benchmark. ``--one`` measures in this process, for a peak of its own."""
    parser = common.parser(__file__, __doc__ or "")
    parser.add_argument("--references", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=2_000)
    parser.add_argument("--dimensions", type=int, default=4096)
    parser.add_argument("--points", type=int, default=20_000, help="points for t-SNE")
    parser.add_argument("--one", choices=["sweep", "tsne"], help="measure, print JSON")
    options = parser.parse_args(argv)
    if options.quick:
        options.references, options.queries, options.dimensions = 500, 100, 128
        options.points = 500
    sizes = (options.references, options.queries, options.dimensions)
    if options.one:
        one = one_sweep(*sizes) if options.one == "sweep" else one_tsne(options.points)
        print(json.dumps(one))
        return 0
    found = _measured("sweep", options) | _measured("tsne", options)
    rows = [
        (part, f"{found[key]:.1f} s", f"{found[f'{key}_bytes'] / 2**20:.0f} MiB")
        for part, key in (
            ("fit whitening for the largest dimension, once", "fit"),
            ("whiten references and queries, once", "whiten"),
            (f"{found['settings']:.0f} settings, each searched and measured", "sweep"),
            (f"t-SNE of {options.points:,} embeddings of {TSNE_DIMENSIONS} dimensions", "tsne"),
        )
    ]
    title = (
        f"{sizes[0]:,} references, {sizes[1]:,} queries of {len(CONDITIONS)} conditions, "
        f"{sizes[2]} dimensions ({found['given'] / 2**20:.0f} MiB of embeddings), whitening "
        f"fitted on {found['fitted_on']:,.0f}\n\n"
    )
    common.report(
        __file__,
        __doc__ or "",
        title
        + common.markdown_table(["part", "time", "peak memory beyond what was given"], rows),
        options=options,
        argv=argv,
        method="sweep and t-SNE once, each in a process of its own",
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
    measure = _Measure(found)
    with measure("fit"):
        whitening = fit_whitening(fitted, size, source="train")
    with measure("whiten"):
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
    dimensions = [max(1, size >> shift) for shift in range(7)]
    with measure("sweep"):
        results = sweep(
            embedded,
            EvaluationOptions(),
            dimensions=dimensions,
            spacings_m=SPACINGS_M,
            name="m",
        )
    return {**found, "settings": len(results)}


def one_tsne(num_points: int) -> dict[str, float]:
    """Return seconds and peak bytes of t-SNE of embeddings that lie along a curve."""
    draw = np.random.default_rng(0)
    along = np.sort(draw.uniform(0, 1, num_points))[:, None] * draw.uniform(
        0, 200, (1, TSNE_DIMENSIONS)
    )
    noise = 0.3 * draw.standard_normal((num_points, TSNE_DIMENSIONS))
    embeddings = (np.sin(along) + noise).astype(np.float32)
    found: dict[str, float] = {}
    with _Measure(found)("tsne"):
        project(embeddings, method="tsne")
    return found


class _Measure:
    """Notes the seconds of a part, and the peak bytes up to its end beyond what was held."""

    def __init__(self, found: dict[str, float]) -> None:
        self._found = found
        self._before = _held()

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._found[part] = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        self._found[f"{part}_bytes"] = peak - self._before


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


def _measured(what: str, options: Namespace) -> dict[str, float]:
    sizes = {name: getattr(options, name) for name in ("references", "queries", "dimensions")}
    sizes["points"] = options.points
    words = [word for name, size in sizes.items() for word in (f"--{name}", str(size))]
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "benchmarks.sweep", "--one", what, *words],
        cwd=common.ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
