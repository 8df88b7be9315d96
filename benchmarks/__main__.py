"""``python -m benchmarks`` lists the benchmarks; with ``--quick`` it runs all, as CI does."""

from __future__ import annotations

import argparse
import ast
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks._common import RESULTS, read_header


@dataclass(frozen=True)
class Benchmark:
    """One benchmark, as its file and its last committed result describe it.

    Attributes:
        name: Its module.
        purpose: First line of its docstring.
        duration: Its ``DURATION``: how long it takes, in words.
        last: Device, commit and date of the committed result; "none yet" without one.
    """

    name: str
    purpose: str
    duration: str
    last: str


def main(argv: list[str]) -> int:
    """List the benchmarks or run them all in their quick form; return 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="run every benchmark in its quick form"
    )
    parser.add_argument(
        "--device", choices=["cpu", "cuda"], default="cpu", help="for --quick (default: cpu)"
    )
    options = parser.parse_args(argv)
    benchmarks = find(Path(__file__).parent)
    if not options.quick:
        _show(benchmarks)
        return 0
    # Side by side on the CPU, where a quick form measures nothing; a GPU serves one at a time.
    at_once = 2 if options.device == "cpu" else 1
    with ThreadPoolExecutor(at_once) as pool:
        passed = list(pool.map(lambda b: _run_quickly(b.name, options.device), benchmarks))
    failed = [b.name for b, well in zip(benchmarks, passed, strict=True) if not well]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def find(folder: Path) -> list[Benchmark]:
    """Return the benchmarks in a folder; parses their files without importing them."""
    return [
        _read(path) for path in sorted(folder.glob("*.py")) if not path.stem.startswith("_")
    ]


def _read(path: Path) -> Benchmark:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    result = RESULTS / f"{path.stem}.md"
    facts = read_header(result) if result.exists() else {}
    known = [facts[key] for key in ("device", "commit", "date") if key in facts]
    return Benchmark(
        name=path.stem,
        purpose=(ast.get_docstring(tree) or "").partition("\n")[0],
        duration=str(constants.get("DURATION", "")),
        last="; ".join(known) or "none yet",
    )


def _show(benchmarks: list[Benchmark]) -> None:
    from mlcore.cli import console

    table = console.table("benchmark", "purpose", "duration", "last committed result")
    for benchmark in benchmarks:
        table.add_row(benchmark.name, benchmark.purpose, benchmark.duration, benchmark.last)
    console.show(table)
    console.write("Run one with: python -m benchmarks.NAME [--quick] [--device cuda] [--save]")


def _run_quickly(name: str, device: str) -> bool:
    """Run one benchmark with one thread and print its output as a whole when it ends."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--device", device]
    done = subprocess.run(  # noqa: S603
        command,
        env={"OMP_NUM_THREADS": "1"} | os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(f"== {name}\n{done.stdout}", flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
