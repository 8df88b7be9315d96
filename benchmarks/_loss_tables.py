"""The tables and the figure of the loss benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import _common as common

Row = dict[str, Any]

TILED = {"tf32": ("tiled, tf32", "tiled, mining, tf32")}
"""Ours, without and with mining, by setting: TF32 is compared with TF32."""


def body(rows: list[Row]) -> str:
    """Return all tables of what was measured, and what was not."""
    by_kind = {
        kind: [row for row in rows if row["what"] == kind and _has_result(row)]
        for kind in ("time", "memory", "company")
    }
    tables = [
        *(
            [_time_table(by_kind["time"]), _ratio_table(by_kind["time"])]
            if by_kind["time"]
            else []
        ),
        *([_memory_table(by_kind["memory"])] if by_kind["memory"] else []),
        *([_company_table(by_kind["company"])] if by_kind["company"] else []),
    ]
    missing = [line for row in rows for line in _missing(row)]
    if missing:
        tables.append("## Not measured\n\n" + "\n".join(f"- {line}" for line in missing))
    return "\n\n".join(tables)


def line(row: Row) -> str:
    """Return one measurement in one line."""
    if not _has_result(row):
        return _missing(row)[0]
    if row["what"] == "memory":
        return f"{_case(row)}: {row['names'][0]} {row['bytes'] / 2**20:.1f} MiB"
    if row["what"] == "company":
        shown = {
            f"{name}, {threads} threads": seconds
            for threads, by_name in row["seconds"].items()
            for name, seconds in by_name.items()
        }
    else:
        shown = row["seconds"]
    times = [f"{name} {common.Timing(tuple(s))}" for name, s in shown.items()]
    return f"{_case(row)}: " + "; ".join([*times, *_missing(row)])


def _has_result(row: Row) -> bool:
    return "seconds" in row or "bytes" in row


def _case(row: Row) -> str:
    words = [f"B = {row['size']}", f"D = {row['dim']}", row["data"], row.get("setting", "")]
    words.append(f"{row['busy']} busy processes" if "busy" in row else "")
    return ", ".join([row["what"], *(word for word in words if word)])


def _missing(row: Row) -> list[str]:
    """Return what a measurement lacks, with the reason."""
    if not _has_result(row):
        names = f", {row['names'][0]}" if len(row["names"]) == 1 else ""
        return [f"{_case(row)}{names}: {row.get('error') or row['skipped']}"]
    return [f"{_case(row)}, {name}: {why}" for name, why in row.get("failed", {}).items()]


def _medians(row: Row) -> dict[str, float]:
    return {name: common.Timing(tuple(s)).median for name, s in row["seconds"].items()}


def _label(row: Row) -> list[object]:
    size = row["size"] if row["dim"] == 256 else f"{row['size']} (D = {row['dim']})"
    return [size, row["data"], row["setting"]]


def _time_table(rows: list[Row]) -> str:
    names = _all_names(rows)
    lines = []
    for row in rows:
        timings = {name: common.Timing(tuple(s)) for name, s in row["seconds"].items()}
        cells = [str(timings.get(name, "")) for name in names]
        lines.append([*_label(row), *cells, f"{1e3 * row['yardstick']:.1f} ms"])
    head = ["B", "data", "setting", *names, "yardstick"]
    return "## Time\n\n" + common.markdown_table(head, lines)


def _ratio_table(rows: list[Row]) -> str:
    head = ["B", "data", "setting", "MultiSimilarity / tiled", "dense autograd / tiled"]
    head += ["dense / tiled", "tiled / yardstick", "mining / no mining"]
    lines = []
    for row in rows:
        t = _medians(row)
        without, with_mining = TILED.get(row["setting"], ("tiled", "tiled, mining"))
        if without not in t:
            continue
        ours = t[without]
        rivals = ("PML MultiSimilarity", "dense autograd", "dense")
        cells = [f"{t[name] / ours:.2f}" if name in t else "" for name in rivals]
        cells.append(f"{ours / row['yardstick']:.2f}")
        cells.append(f"{t[with_mining] / ours:.2f}" if with_mining in t else "")
        lines.append([*_label(row), *cells])
    return "## Ratios of medians\n\n" + common.markdown_table(head, lines)


def _company_table(rows: list[Row]) -> str:
    names = list(
        dict.fromkeys(name for row in rows for s in row["seconds"].values() for name in s)
    )
    head = ["B", "data", "busy processes", "threads", *names]
    head += ["MultiSimilarity / tiled", "mining / no mining", "tiled / tiled with 1 thread"]
    lines = []
    for row in rows:
        one = common.Timing(tuple(row["seconds"]["1"]["tiled"])).median
        for threads, seconds in row["seconds"].items():
            timings = {name: common.Timing(tuple(s)) for name, s in seconds.items()}
            ours = timings["tiled"].median
            ratios = [
                f"{timings[name].median / ours:.2f}" if name in timings else ""
                for name in ("PML MultiSimilarity", "tiled, mining")
            ]
            cells = [str(timings.get(name, "")) for name in names]
            lines.append(
                [
                    *(row["size"], row["data"], row["busy"], threads),
                    *(*cells, *ratios, f"{ours / one:.2f}"),
                ]
            )
    return "## Threads beside busy processes\n\n" + common.markdown_table(head, lines)


def _memory_table(rows: list[Row]) -> str:
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


def _all_names(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row["names"]))


def plot(rows: list[Row], path: Path) -> None:
    """Draw the times on the route over the batch size."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    shown = [r for r in rows if r["what"] == "time" and "seconds" in r]
    shown = [r for r in shown if r["data"] == "route" and r["dim"] == 256]
    shown = [r for r in shown if r["setting"] != "tuned allocator"]
    for name in _all_names(shown):
        points = sorted((r["size"], _medians(r)[name]) for r in shown if name in r["seconds"])
        if points:
            style = "-" if name.startswith("tiled") else "--"
            axes.loglog(*zip(*points, strict=True), style, marker="o", ms=3, label=name)
    axes.set(xlabel="images in the batch", ylabel="seconds per step", title="route, D = 256")
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=150)
