"""Exact search over references on disk: time and memory by memory budget.

Random unit embeddings in shards of a temporary folder. Memory is what the process holds at
most beyond what it held before the search, queries and result included. The form that is
meant, a million references of 4096 dimensions, is ``--full``: 16 GB of disk.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import _common as common
from mlcore.retrieval.search import search
from mlcore.retrieval.shards import ShardedEmbeddings

DURATION = "2 minutes; 30 with --full"

SHARD_ROWS = 10_000
K = 20


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; 1 if a planted neighbour is not found. ``--one`` is one row."""
    parser = common.parser(__file__, __doc__ or "")
    parser.add_argument("--full", action="store_true", help="1,000,000 x 4096")
    parser.add_argument("--references", type=int, default=200_000)
    parser.add_argument("--dimensions", type=int, default=1024)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--one", nargs=2, metavar=("FOLDER", "MB"), help="measure one budget")
    options = parser.parse_args(argv)
    if options.full:
        options.references, options.dimensions = 1_000_000, 4096
    if options.quick:
        options.references, options.dimensions, options.queries = 5_000, 64, 20
    if options.one:
        print(json.dumps(one_row(Path(options.one[0]), int(options.one[1]))))
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, options.references, options.dimensions, options.queries)
        rows, wrong = [], 0
        for megabytes in (64, 256, 1024):
            found = _measured(folder, megabytes)
            wrong += found["missed"]
            rows.append(
                (
                    f"{megabytes} MB",
                    f"{found['bytes'] / 1e6:.0f} MB",
                    f"{found['seconds']:.1f} s",
                    found["missed"],
                )
            )
    on_disk = options.references * options.dimensions * 4 / 1e9
    title = (
        f"{options.references:,} references of {options.dimensions} dimensions "
        f"({on_disk:.1f} GB), {options.queries} queries, {K} neighbours\n\n"
    )
    columns = ["budget", "peak memory", "search", "planted neighbours missed"]
    common.report(
        __file__,
        __doc__ or "",
        title + common.markdown_table(columns, rows),
        options=options,
        argv=argv,
        method="one search a row, each in a process of its own; files may be in the page cache",
    )
    return 1 if wrong else 0


def write(folder: Path, num_references: int, dimensions: int, num_queries: int) -> None:
    """Write shards, and queries that each lie beside one reference."""
    generator = np.random.default_rng(0)
    planted = np.sort(generator.choice(num_references, num_queries, replace=False))
    queries = np.empty((num_queries, dimensions), dtype=np.float32)
    for number, start in enumerate(range(0, num_references, SHARD_ROWS)):
        size = min(SHARD_ROWS, num_references - start)
        shard = generator.standard_normal((size, dimensions), dtype=np.float32)
        shard /= np.linalg.norm(shard, axis=1, keepdims=True)
        np.save(folder / f"embeddings-{number:05d}.npy", shard)
        here = (planted >= start) & (planted < start + size)
        noise = generator.standard_normal((int(here.sum()), dimensions), dtype=np.float32)
        queries[here] = shard[planted[here] - start] + 0.3 / np.sqrt(dimensions) * noise
    np.save(folder / "queries.npy", queries)
    np.save(folder / "planted.npy", planted)


def _measured(folder: Path, megabytes: int) -> dict[str, float]:
    words = [sys.executable, "-m", "benchmarks.retrieval", "--one", str(folder), str(megabytes)]
    done = subprocess.run(  # noqa: S603
        words, cwd=common.ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def one_row(folder: Path, megabytes: int) -> dict[str, float]:
    """Return seconds and peak bytes of one search, and how many planted rows it missed."""
    references = ShardedEmbeddings.open(folder)
    queries, planted = np.load(folder / "queries.npy"), np.load(folder / "planted.npy")
    search(queries[:10], queries[:10], 1)  # faiss is loaded and its threads are there
    before = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    start = time.perf_counter()
    found = search(references, queries, K, memory_bytes=megabytes * 2**20)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "seconds": seconds,
        "bytes": peak - before * resource.getpagesize(),
        "missed": int((found.row[:, 0] != planted).sum()),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
