"""How much faster several processes compute the proposed loss of a joint batch than one.

Gloo processes with one thread each on one machine. Measured is what a training step does
between the embeddings of all images and the gradient at each of them: loss, backward, and the
sum of the gradients' parts. "tiles" deals out the upper triangle's tiles (`forward_shared`);
"rows" compares each process's rows with all (`forward_rows`).
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from benchmarks import _common as common
from benchmarks._joint import run_in_processes
from benchmarks._loss_steps import batch
from mlcore.distributed import deal
from mlcore.protocols import Batch, Role
from mlcore_soft_contrastive import SoftContrastiveConfig
from mlcore_soft_contrastive.influence import Sigmoid
from mlcore_soft_contrastive.loss import BatchLoss

DURATION = "5 minutes"
DIM = 256

Way = tuple[str, int]
Case = tuple[int, str, bool]


@dataclass(frozen=True)
class Some:
    """The first processes of all (:class:`mlcore.protocols.ProcessGroup`)."""

    rank: int
    count: int
    group: Any

    def add_up(self, values: Tensor) -> Tensor:
        """Return the sum."""
        return self._reduced(values, dist.ReduceOp.SUM)

    def largest(self, values: Tensor) -> Tensor:
        """Return the largest."""
        return self._reduced(values, dist.ReduceOp.MAX)

    def _reduced(self, values: Tensor, operation: Any) -> Tensor:
        values = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(values, op=operation, group=self.group)
        return values


def main(argv: Sequence[str]) -> int:
    """Run the benchmark."""
    options = common.parser(__file__, __doc__ or "").parse_args(argv)
    sizes, counts, repeats = ((2048, 8192), (2, 4), 9)
    if options.quick:
        sizes, counts, repeats = ((1024,), (2,), 2)
    cases = [
        (size, data, mining)
        for size in sizes
        for data in ("dense", "route")
        for mining in (False, True)
    ]
    ways: list[Way] = [("one", 1), ("one again", 1)]
    ways += [(kind, count) for count in counts for kind in ("tiles", "rows")]
    found = run_in_processes(max(counts), _measure, (cases, ways, repeats))
    rows = [
        row
        for case, times in zip(cases, found, strict=True)
        for row in _rows(case, ways, times)
    ]
    common.report(
        __file__,
        __doc__ or "",
        common.markdown_table(("batch", "processes", "way", "time", "times one"), rows),
        options=options,
        argv=argv,
        method=f"1 warm-up, median [least, most] of {repeats} in turns; the ways of a batch in "
        "the same processes, the others waiting; times one: one process's median over this",
    )
    return 0


def _rows(case: Case, ways: Sequence[Way], times: Sequence[Sequence[float]]) -> list[Any]:
    size, data, mining = case
    name = f"{size}, {data}{', mining' if mining else ''}"
    one = statistics.median(times[0])
    return [
        (name, count, way, common.Timing(tuple(found)), f"{one / statistics.median(found):.2f}")
        for (way, count), found in zip(ways, times, strict=True)
    ]


def _measure(
    cases: Sequence[Case], ways: Sequence[Way], repeats: int
) -> list[list[list[float]]]:
    """Return the seconds by case and way, in the first process."""
    groups = {
        count: dist.new_group(list(range(count))) for count in sorted({n for _, n in ways})
    }
    return [_measure_case(case, ways, repeats, groups) for case in cases]


def _measure_case(
    case: Case, ways: Sequence[Way], repeats: int, groups: Mapping[int, Any]
) -> list[list[float]]:
    size, data, mining = case
    embeddings, positions, _ = batch(size, DIM, data, "cpu")
    images = _images(positions)
    loss = BatchLoss(SoftContrastiveConfig(implementation="tiled", mining=mining), Sigmoid())
    seconds: list[list[float]] = [[] for _ in ways]
    for turn in range(repeats + 1):
        for (kind, count), found in zip(ways, seconds, strict=True):
            if dist.get_rank() < count:
                group = Some(dist.get_rank(), count, groups[count])
                dist.barrier(groups[count])
                start = time.perf_counter()
                _step(loss, embeddings, images, group, kind)
                dist.barrier(groups[count])
                if turn:
                    found.append(time.perf_counter() - start)
            dist.barrier()
    return seconds


def _step(loss: BatchLoss, embeddings: Tensor, images: Batch, group: Some, kind: str) -> None:
    leaf = embeddings.detach().requires_grad_()
    if group.count == 1:
        output = loss(leaf, images)
    elif kind == "tiles":
        shared = loss.forward_shared(leaf, images, group)
        assert shared is not None
        output = shared
    else:
        output = loss.forward_rows(leaf, images, deal(len(images), group.count)[group.rank])
    output.loss.backward()
    assert leaf.grad is not None
    if group.count > 1:
        group.add_up(leaf.grad)


def _images(positions: Tensor) -> Batch:
    numbers = torch.arange(len(positions))
    return Batch(
        positions_m=positions,
        headings_rad=None,
        tuple_id=torch.zeros_like(numbers),
        role=torch.full_like(numbers, int(Role.ANCHOR)),
        place_id=torch.zeros_like(numbers),
        index=numbers,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
