"""Time and memory of one step of the proposed loss, compared with other pair losses.

Forward and backward from the embeddings to their gradient, float32. The yardstick is
4 B^2 D flop at the rate of one 512-wide tile's matrix product plus 3 B^2 exponentials at
torch's rate, both measured in the same run. pytorch-metric-learning's losses compute
something else, with less arithmetic for each pair: they are what people use.

Every time is measured under the default allocator and under one that keeps freed memory
(``GLIBC_TUNABLES``), because beyond B = 4,096 dense losses spend most of their time having
pages mapped. Memory: a fresh process for each figure, peak resident set over the set just
before the step.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks import _common as common

DURATION = "about 35 minutes"

SETTINGS = {
    "default allocator": {},
    "tuned allocator": {
        "GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=4294967296:"
        "glibc.malloc.trim_threshold=4294967296"
    },
}
CUDA_SETTINGS = {"fp32": {}, "tf32": {"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"}}
OURS = ["tiled", "tiled, saved", "tiled, filter 0.5", "tiled, mining", "tiled, mining, saved"]
ON_CUDA = ["tiled, tf32", "tiled, bfloat16"]
DENSE = ["dense", "dense, mining", "dense autograd"]
PML = ["PML MultiSimilarity", "PML SupCon", "PML Contrastive", "PML Circle"]
# Where a step takes seconds, what the others are compared with stands for them.
LARGE = ["tiled", "tiled, mining"]
LARGE_RIVALS = ["dense", "dense autograd", "PML MultiSimilarity"]
DIM = 256
SIZES = [256, 1024, 2048, 4096, 8192, 16384, 32768, 65536]
CUDA_SIZES = [1024, 8192, 32768, 131072]
LARGEST_DENSE = {"cpu": 8192, "cuda": 32768}
REPEATS = {256: 40, 512: 15, 1024: 20, 2048: 9, 4096: 5, 8192: 4, 16384: 3, 32768: 3}
COMPANY_THREADS, COMPANY_BUSY = [1, 2, 4, 8], [0, 1, 2]
COMPANY_NAMES = ["tiled", "tiled, mining", "PML MultiSimilarity"]
CUDA_COMMAND = "python -m benchmarks.loss_step --device cuda --save"


def main(argv: Sequence[str]) -> int:
    """Run the benchmark."""
    parser = common.parser(__file__, __doc__ or "")
    parser.add_argument("--sizes", type=int, nargs="+", help="batch sizes to measure")
    parser.add_argument("--worker", help="internal: one measurement, as JSON")
    parser.add_argument(
        "--only-company",
        action="store_true",
        help="only the table of threads and busy processes",
    )
    options = parser.parse_args(argv)
    if options.worker:
        print(json.dumps(_work(json.loads(options.worker))))
        return 0
    if options.only_company:
        print(_company_table(_company([256] if options.quick else [4096], quick=options.quick)))
        return 0
    all_sizes = SIZES if options.device == "cpu" else CUDA_SIZES
    sizes = options.sizes or ([256] if options.quick else all_sizes)
    times = _times(sizes, options.device, quick=options.quick)
    memory = _memory(sizes, options.device)
    tables = [_time_table(times), _ratio_table(times), _memory_table(memory)]
    if options.device == "cpu":
        company = _company([256] if options.quick else [4096], quick=options.quick)
        tables.append(_company_table(company))
    body = "\n\n".join([*tables, *_gpu(options.device)])
    common.report(
        __file__,
        __doc__ or "",
        body,
        options=options,
        argv=argv,
        method=f"D = {DIM} unless said; 1 warm-up, then rounds in turns "
        f"({REPEATS}, else 1), each timed step right after an untimed one of the same loss "
        "(neither beyond 8,192), from 4,096 on again until 2 s have passed; median "
        "[smallest, largest]",
    )
    if options.save:
        _plot(times)
    return 0


def _times(sizes: list[int], device: str, *, quick: bool) -> list[dict[str, Any]]:
    kinds = ["route"] if quick else ["dense", "route"]
    cases = [(size, DIM, data) for size in sizes for data in kinds]
    if not quick:
        cases.append((512, 32768, "route"))  # the paper's embedding
    settings = SETTINGS if device == "cpu" else CUDA_SETTINGS
    rows = []
    for size, dim, data in cases:
        names = _names(size, device)
        for setting, environment in settings.items():
            if device == "cpu" and size > LARGEST_DENSE[device] and environment:
                continue  # nothing left that allocates B x B matrices
            job = {
                "what": "time",
                "size": size,
                "dim": dim,
                "data": data,
                "device": device,
                "names": names,
                "repeats": 2 if quick else REPEATS.get(size, 1),
            }
            print(f"B = {size}, D = {dim}, {data}, {setting}", file=sys.stderr, flush=True)
            rows.append(job | {"setting": setting} | _spawn(job, environment))
    return rows


def _names(size: int, device: str) -> list[str]:
    if device == "cuda":
        return OURS + ON_CUDA + (DENSE + PML if size <= LARGEST_DENSE[device] else [])
    if size < LARGEST_DENSE[device]:
        return OURS + DENSE + PML
    return LARGE + (LARGE_RIVALS if size == LARGEST_DENSE[device] else [])


def _memory(sizes: list[int], device: str) -> list[dict[str, Any]]:
    rows = []
    for size in sizes:
        names = ["tiled", "tiled, mining"]
        if size <= LARGEST_DENSE[device]:
            names += ["dense autograd", "PML MultiSimilarity"]
        for name in names:
            job = {
                "what": "memory",
                "size": size,
                "dim": DIM,
                "data": "route",
                "device": device,
                "names": [name],
            }
            rows.append(job | _spawn(job, {}))
    return rows


def _company(sizes: list[int], *, quick: bool) -> list[dict[str, Any]]:
    rows = []
    for size in sizes:
        for data in ("route",) if quick else ("dense", "route"):
            for busy in COMPANY_BUSY[:1] if quick else COMPANY_BUSY:
                job = {
                    "what": "company",
                    "size": size,
                    "dim": DIM,
                    "data": data,
                    "device": "cpu",
                    "busy": busy,
                    "names": COMPANY_NAMES,
                    "repeats": 2 if quick else 7,
                }
                print(f"B = {size}, {data}, {busy} busy processes", file=sys.stderr, flush=True)
                rows.append(job | _spawn(job, {}))
    return rows


def _spawn(job: dict[str, Any], environment: dict[str, str]) -> dict[str, Any]:
    """Measure in a fresh process."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "benchmarks.loss_step", "--worker", json.dumps(job)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=common.ROOT,
        env={**os.environ, **environment},
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _work(job: dict[str, Any]) -> dict[str, Any]:
    from benchmarks import _loss_steps as work

    size, dim, data, device = job["size"], job["dim"], job["data"], job["device"]
    if job["what"] == "memory":
        return {"bytes": work.peak_bytes(job["names"][0], size, dim, data, device)}
    if job["what"] == "company":
        steps = work.steps(job["names"], size, dim, data, device)
        return {"seconds": work.beside(job["busy"], steps, COMPANY_THREADS, job["repeats"])}
    flops, exponentials = work.yardstick(dim, device)
    timings = common.measure(
        work.steps(job["names"], size, dim, data, device),
        repeats=job["repeats"],
        # A step of many seconds pays for its own start, and has no rivals beside it.
        warmup=int(size <= 8192),
        settle=size <= 8192,
        turn_s=2.0 if size >= 4096 else 0.0,
        synchronize=lambda: work.synchronize(device),
    )
    return {
        "seconds": {name: timing.seconds for name, timing in timings.items()},
        "yardstick": 4 * size**2 * dim / flops + 3 * size**2 / exponentials,
    }


def _medians(row: dict[str, Any]) -> dict[str, float]:
    return {name: common.Timing(tuple(s)).median for name, s in row["seconds"].items()}


def _label(row: dict[str, Any]) -> list[object]:
    size = row["size"] if row["dim"] == DIM else f"{row['size']} (D = {row['dim']})"
    return [size, row["data"], row["setting"]]


def _time_table(rows: list[dict[str, Any]]) -> str:
    names = OURS + ON_CUDA + DENSE + PML
    names = [name for name in names if any(name in row["seconds"] for row in rows)]
    lines = []
    for row in rows:
        timings = {name: common.Timing(tuple(s)) for name, s in row["seconds"].items()}
        cells = [str(timings.get(name, "")) for name in names]
        lines.append([*_label(row), *cells, f"{1e3 * row['yardstick']:.1f} ms"])
    head = ["B", "data", "setting", *names, "yardstick"]
    return "## Time\n\n" + common.markdown_table(head, lines)


def _ratio_table(rows: list[dict[str, Any]]) -> str:
    head = ["B", "data", "setting", "MultiSimilarity / tiled", "dense autograd / tiled"]
    head += ["dense / tiled", "tiled / yardstick", "mining / no mining"]
    lines = []
    for row in rows:
        t = _medians(row)
        ours = t["tiled"]
        rivals = ("PML MultiSimilarity", "dense autograd", "dense")
        cells = [f"{t[name] / ours:.2f}" if name in t else "" for name in rivals]
        cells += [f"{ours / row['yardstick']:.2f}", f"{t['tiled, mining'] / ours:.2f}"]
        lines.append([*_label(row), *cells])
    return "## Ratios of medians\n\n" + common.markdown_table(head, lines)


def _company_table(rows: list[dict[str, Any]]) -> str:
    head = ["B", "data", "busy processes", "threads", *COMPANY_NAMES]
    head += ["MultiSimilarity / tiled", "mining / no mining", "tiled / tiled with 1 thread"]
    lines = []
    for row in rows:
        one = common.Timing(tuple(row["seconds"]["1"]["tiled"])).median
        for threads, seconds in row["seconds"].items():
            timings = {name: common.Timing(tuple(s)) for name, s in seconds.items()}
            ours = timings["tiled"].median
            ratios = [
                timings["PML MultiSimilarity"].median / ours,
                timings["tiled, mining"].median / ours,
                ours / one,
            ]
            cells = [str(timings[name]) for name in COMPANY_NAMES]
            lines.append(
                [row["size"], row["data"], row["busy"], threads, *cells]
                + [f"{ratio:.2f}" for ratio in ratios]
            )
    return "## Threads beside busy processes\n\n" + common.markdown_table(head, lines)


def _memory_table(rows: list[dict[str, Any]]) -> str:
    lines = [
        [
            row["size"],
            row["names"][0],
            f"{row['bytes'] / 2**20:.1f} MiB",
            f"{row['bytes'] / (4 * row['size'] * row['dim']):.1f}",
        ]
        for row in rows
    ]
    head = ["B", "loss", "peak over the inputs", "in B x D floats"]
    return "## Memory, route\n\n" + common.markdown_table(head, lines)


def _gpu(device: str) -> list[str]:
    if device == "cuda":
        return []
    return [f"## GPU\n\nnot measured: `{CUDA_COMMAND}`"]


def _plot(rows: list[dict[str, Any]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    shown = [r for r in rows if r["data"] == "route" and r["dim"] == DIM]
    shown = [r for r in shown if r["setting"] in ("default allocator", "fp32")]
    for name in OURS + ON_CUDA + DENSE + PML:
        points = [(r["size"], _medians(r)[name]) for r in shown if name in r["seconds"]]
        if points:
            style = "-" if name.startswith("tiled") else "--"
            axes.loglog(*zip(*points, strict=True), style, marker="o", ms=3, label=name)
    axes.set(xlabel="images in the batch", ylabel="seconds a step", title="route, D = 256")
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.legend(fontsize=8)
    figure.savefig(common.RESULTS / "loss_step.png", dpi=150)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
