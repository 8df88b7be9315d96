"""Maps of a million references: opened, searched exactly and by an index, beside plain faiss.

Made embeddings in clumps, as those of places seen several times are: a centre, and references
and queries around it. "Opened" is a map with its names, positions and index. Plain faiss does
the same in turns with mlcore in one process, from references in memory: it searches them all,
or lets the index propose 100 candidates and computes their distances (``IndexRefine``); "index
alone" leaves those out. "Memory" is what a process with mlcore alone holds at most. With
``--by-index`` plain faiss is left out, and the references are never in memory: an index
proposes 100 candidates, whose distances are computed exactly from the map on disk.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import _common as common
from mlcore.deployment.approximate_index import CANDIDATES, IndexReport
from mlcore.deployment.map_folder import MapFolder, MapInfo, Part
from mlcore.retrieval.search import search

DURATION = (
    "4 minutes at 100,000; 40 at 1,000,000; 90 and 12 GB of disk for 2,800,000 --by-index"
)

K = 20
SHARD_ROWS = 8192
SEEN = 8
"""References of a place."""


def main(argv: Sequence[str]) -> int:
    """Run the benchmark. ``--one KIND FOLDER`` is one row, in a process of its own."""
    parser = common.parser(__file__, __doc__ or "")
    parser.add_argument("--references", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument(
        "--kinds", default="flat+hnsw+IVF1024,PQ64", help="indexes, joined by +"
    )
    parser.add_argument("--by-index", action="store_true", help="without plain faiss in memory")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="for the files; temporary by default")
    parser.add_argument("--name", help="save the result as maps_NAME")
    parser.add_argument("--one", nargs=2, metavar=("KIND", "FOLDER"))
    options = parser.parse_args(argv)
    if options.quick:
        options.references, options.dimensions, options.queries = 5_000, 64, 50
    if options.one:
        kind, folder = options.one
        found = one_row(Path(folder), kind, options.repeats, by_index=options.by_index)
        print(json.dumps(found))
        return 0
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        write(folder, options.references, options.dimensions, options.queries)
        rows = [_row(folder, kind, options) for kind in options.kinds.split("+")]
    columns = (
        "index",
        "built",
        "index on disk",
        "opened",
        f"{options.queries} queries",
        "plain faiss",
        "ratio",
        "index alone",
        f"first {K} found",
        "first found",
        "memory",
    )
    size_gb = options.references * options.dimensions * 4 / 1e9
    title = (
        f"{options.references:,} references of {options.dimensions} dimensions ({size_gb:.1f} "
        f"GB in float32), {options.queries} queries, {K} neighbours\n\n"
    )
    common.report(
        __file__,
        __doc__ or "",
        title + common.markdown_table(columns, rows),
        options=options,
        argv=argv,
        method=f"each index in a process of its own; {options.repeats} searches of each kind "
        "in turns after one that does not count; median; files may be in the page cache",
        result="_".join(filter(None, ("maps", options.name))),
    )
    return 0


def write(folder: Path, num_references: int, dimensions: int, num_queries: int) -> None:
    """Write the shards of a map, and queries, each near the references of one place."""
    queries = np.empty((num_queries, dimensions), dtype=np.float32)
    made = MapFolder(folder, MapInfo(model="made", dimensions=dimensions))
    made.append(_parts(num_references, queries))
    np.save(folder / "queries.npy", queries)


def _parts(num_references: int, queries: NDArray[np.float32]) -> Iterator[Part]:
    """Yield the shards of a map, and fill in the queries."""
    num_queries, dimensions = queries.shape
    spread = 0.35 / np.sqrt(dimensions)
    asked = np.random.default_rng(1).choice(num_references, num_queries, replace=False)
    for number, start in enumerate(range(0, num_references, SHARD_ROWS)):
        rng = np.random.default_rng([2, number])
        size = min(SHARD_ROWS, num_references - start)
        centres = rng.standard_normal((-(-size // SEEN), dimensions), dtype=np.float32)
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        rows = centres.repeat(SEEN, axis=0)[:size]
        noise = rng.standard_normal((size, dimensions), dtype=np.float32)
        references = rows + spread * noise
        here = (asked >= start) & (asked < start + size)
        noise = rng.standard_normal((int(here.sum()), dimensions), dtype=np.float32)
        queries[here] = rows[asked[here] - start] + spread * noise
        place = np.arange(start, start + size)
        names = [f"drive/{row:07d}.jpg" for row in place.tolist()]
        yield references, {"image": names, "easting_m": place * 2.5, "northing_m": place * 0.0}


def _row(folder: Path, kind: str, options: Any) -> list[object]:
    words = [sys.executable, "-m", "benchmarks.maps", "--repeats", str(options.repeats)]
    words += ["--by-index"] if options.by_index else []
    done = subprocess.run(  # noqa: S603
        [*words, "--one", kind, str(folder)],
        cwd=common.ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    print(f"{kind}: {found}", file=sys.stderr)
    plain_s = found["plain_s"]
    return [
        kind,
        f"{found['build_s']:.0f} s" if found["build_s"] else "",
        f"{found['index_bytes'] / 1e9:.2f} GB" if found["index_bytes"] else "",
        f"{found['open_s']:.2f} s",
        f"{found['search_s']:.2f} s",
        "" if plain_s is None else f"{plain_s:.2f} s",
        "" if plain_s is None else f"{found['search_s'] / plain_s:.2f}",
        "" if found["alone_s"] is None else f"{found['alone_s']:.2f} s",
        "" if found["recall"] is None else f"{found['recall']:.1%}",
        "" if found["recall_1"] is None else f"{found['recall_1']:.1%}",
        f"{found['bytes'] / 1e9:.2f} GB",
    ]


def one_row(folder: Path, kind: str, repeats: int, *, by_index: bool) -> dict[str, Any]:
    """Build an index and search it in turns with plain faiss; return times and recall."""
    import faiss

    queries: NDArray[np.float32] = np.load(folder / "queries.npy")
    info = MapInfo(model="made", dimensions=queries.shape[1])
    built = None if kind == "flat" else _in_a_process(folder, kind, info.dimensions)
    if built is not None:
        info = replace(info, index=IndexReport(**built))
    started = time.perf_counter()
    opened = MapFolder(folder, info)
    references = opened.embeddings
    assert len(opened.columns) == len(references)
    index = opened._index  # noqa: SLF001 - mapped when a search asks for it
    open_s = time.perf_counter() - started

    def ours() -> NDArray[np.int64]:
        return opened.search(queries, K).row

    found = ours()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    runs: dict[str, Any] = {"ours": ours}
    if not by_index:
        plain: Any = faiss.IndexFlatL2(references.shape[1])
        for block in _blocks(references):
            plain.add(block)
        if index is not None:
            alone, flat = index._index, plain  # noqa: SLF001
            plain = faiss.IndexRefine(alone, flat)
            plain.k_factor = CANDIDATES / K
            runs["alone"] = lambda: alone.search(queries, CANDIDATES)
        runs["plain"] = lambda: plain.search(queries, K)
    timings = common.measure(runs, repeats=repeats)
    exact = found if index is None else search(references, queries, K).row
    hits = (exact[:, :, None] == found[:, None, :]).any(axis=2)
    return {
        "build_s": built["build_s"] if built else 0,
        "index_bytes": built["size_bytes"] if built else 0,
        "open_s": open_s,
        "search_s": timings["ours"].median,
        "plain_s": timings["plain"].median if "plain" in timings else None,
        "alone_s": timings["alone"].median if "alone" in timings else None,
        "recall": None if index is None else float(hits.mean()),
        "recall_1": None if index is None else float((exact[:, 0] == found[:, 0]).mean()),
        "bytes": memory,
    }


def _in_a_process(folder: Path, kind: str, dimensions: int) -> dict[str, Any]:
    """Build an index in another process, so that building does not count as memory."""
    code = (
        "import json, sys; from dataclasses import asdict; from pathlib import Path\n"
        "from mlcore.deployment.map_folder import MapFolder, MapInfo\n"
        "info = MapInfo(model='made', dimensions=int(sys.argv[3]))\n"
        "report = MapFolder(Path(sys.argv[1]), info).build_index(sys.argv[2])\n"
        "print(json.dumps(asdict(report)))\n"
    )
    words = [sys.executable, "-c", code, str(folder), kind, str(dimensions)]
    done = subprocess.run(  # noqa: S603
        words, cwd=common.ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _blocks(references: Any) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(references), SHARD_ROWS):
        yield references.read(start, min(start + SHARD_ROWS, len(references)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
