"""Damaged files in every parser: a clear error or a result, and nothing else.

A sound file of each kind is mutated (bits, spans cut out, doubled or swapped, lengths blown
up) and read. What is not a DataError or a result, a read of more than two seconds of CPU
time, and a process that grows by 200 MB are failures. Each kind is read in a process of its
own.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from benchmarks import _common as common
from benchmarks._fuzz_kinds import Kind, kinds

DURATION = "about 5 minutes for 210,000 files"

LIMIT_S = 2
LIMIT_MB = 200
PER_KIND, PER_KIND_QUICK = 10_000, 60

_NUMBERS = [0, 1, 7, 127, 128, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1]
_WORDS = [b"nan", b"-1", b"1e400", b"", b",", b"\n", b"\0", b"/../", b"\xff\xfe", b"9" * 40]


class Outcome(NamedTuple):
    """What became of the files of a kind."""

    files: int
    results: int
    refused: int
    slowest_s: float
    grown_mb: float
    failures: tuple[str, ...]


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; 1 if a file did what none should."""
    parser = common.parser(__file__, __doc__ or "")
    parser.add_argument("--files", type=int, default=PER_KIND, help="mutated files per kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    files = PER_KIND_QUICK if options.quick else options.files
    outcomes = {kind.name: _in_own_process(kind, files, options.seed) for kind in kinds()}
    rows = [
        [
            name,
            f"{one.files:,}",
            f"{one.results:,}",
            f"{one.refused:,}",
            f"{1e3 * one.slowest_s:.0f} ms",
            f"{one.grown_mb:.0f} MB",
            len(one.failures),
        ]
        for name, one in outcomes.items()
    ]
    columns = ["kind", "files", "read", "refused", "slowest", "process grew by", "failures"]
    failures = [f"- {name}: {f}" for name, one in outcomes.items() for f in one.failures[:5]]
    total = sum(one.files for one in outcomes.values())
    common.report(
        __file__,
        __doc__ or "",
        common.markdown_table(columns, rows)
        + "\n".join(["", "", f"{total:,} files.", *failures]),
        options=options,
        argv=argv,
        method=f"seed {options.seed}; a read may take {LIMIT_S} s of CPU and {LIMIT_MB} MB",
    )
    return 1 if failures else 0


def _in_own_process(kind: Kind, files: int, seed: int) -> Outcome:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(kind, files, seed, sender))
    process.start()
    sender.close()
    try:
        outcome: Outcome = receiver.recv()
    except EOFError:
        process.join()
        outcome = Outcome(0, 0, 0, 0.0, 0.0, (f"the process died: {process.exitcode}",))
    process.join()
    return outcome


def _run(kind: Kind, files: int, seed: int, sender: Any) -> None:
    from mlcore.errors import MlcoreError

    signal.signal(signal.SIGPROF, _too_long)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries that tell of damage themselves
    generator = random.Random(f"{kind.name}/{seed}")
    counts: Counter[str] = Counter()
    failures: list[str] = []
    slowest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file{kind.suffix}"
        sound = kind.make()
        path.write_bytes(sound)
        kind.read(path)  # imports what it needs; a sound file must pass
        start_mb = _peak_mb()
        for number in range(files):
            path.write_bytes(mutated(sound, generator))
            began = time.process_time()
            signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
            try:
                kind.read(path)
                counts["result"] += 1
            except MlcoreError:
                counts["refused"] += 1
            except Exception as error:  # noqa: BLE001 - what is sought
                failures.append(f"file {number}: {type(error).__name__}: {error}"[:300])
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
            slowest = max(slowest, time.process_time() - began)
        grown = _peak_mb() - start_mb
    if grown > LIMIT_MB:
        failures.append(f"the process grew by {grown:.0f} MB")
    sender.send(
        Outcome(files, counts["result"], counts["refused"], slowest, grown, tuple(failures))
    )


def mutated(data: bytes, generator: random.Random) -> bytes:
    """Return a damaged copy of ``data``."""
    damaged = bytearray(data)
    for _ in range(generator.choice([1, 1, 1, 2, 4, 16])):
        generator.choice(_DAMAGES)(damaged, generator)
    return bytes(damaged)


def _flip(data: bytearray, generator: random.Random) -> None:
    if data:
        data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)


def _cut_end(data: bytearray, generator: random.Random) -> None:
    del data[generator.randrange(len(data) + 1) :]


def _cut_out(data: bytearray, generator: random.Random) -> None:
    start, stop = _span(data, generator)
    del data[start:stop]


def _double(data: bytearray, generator: random.Random) -> None:
    start, stop = _span(data, generator)
    data[start:start] = data[start:stop]


def _word(data: bytearray, generator: random.Random) -> None:
    start, stop = _span(data, generator)
    data[start : min(stop, start + 12)] = generator.choice(_WORDS)


def _number(data: bytearray, generator: random.Random) -> None:
    """Write a number that lengths and counts are wrong with, in some width and order."""
    form = generator.choice("BHIQ")
    packed = struct.pack(
        generator.choice("<>") + form,
        generator.choice(_NUMBERS) % 2 ** (8 * struct.calcsize(form)),
    )
    start = generator.randrange(len(data) + 1)
    data[start : start + len(packed)] = packed


_DAMAGES = (_flip, _flip, _cut_end, _cut_out, _double, _word, _number, _number)


def _span(data: bytearray, generator: random.Random) -> tuple[int, int]:
    start = generator.randrange(len(data) + 1)
    return start, min(len(data), start + generator.choice([1, 4, 16, 64, 1024]))


def _too_long(_number: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"longer than {LIMIT_S} s")


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
