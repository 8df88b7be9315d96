"""The processes of one run: their ranks, and collective operations.

Lightning, torchrun or SLURM starts them; each runs the same command. Importing this module does
not import torch, and with one process every function is trivial.

Shapes: ``B`` rows that all processes have together, ``b`` of them this one's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

from mlcore.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

RUN_FOLDER = "MLCORE_RUN_FOLDER"
"""Environment variable with the run folder, for processes that Lightning starts."""


def launched_rank() -> int:
    """Return this process's number as its launcher gave it, from 0; needs no group yet."""
    environment = os.environ
    if "RANK" in environment:  # torchrun
        return int(environment["RANK"])
    if is_slurm_step():
        return int(environment["SLURM_PROCID"])
    per_node = int(environment.get("LOCAL_WORLD_SIZE", "1"))
    node = int(environment.get("NODE_RANK", environment.get("GROUP_RANK", "0")))
    return node * per_node + int(environment.get("LOCAL_RANK", "0"))


def is_slurm_step() -> bool:
    """Whether srun started this process beside others.

    A batch script sees the job's number of tasks too, and is none of them: it has no step.
    """
    several = int(os.environ.get("SLURM_NTASKS", "1")) > 1
    return several and "SLURM_STEP_ID" in os.environ and "SLURM_PROCID" in os.environ


def is_first() -> bool:
    """Whether this process writes the files and talks to the user."""
    return (rank() if num_processes() > 1 else launched_rank()) == 0


def was_started_by_first() -> bool:
    """Whether Lightning started this process from the first one, by the same command."""
    return RUN_FOLDER in os.environ and os.environ.get("LOCAL_RANK", "0") != "0"


def num_processes() -> int:
    """Return how many processes there are; 1 before they have met."""
    if "torch" not in sys.modules:  # whose import takes seconds, and without it none has met
        return 1
    import torch.distributed as dist

    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return this process's number, from 0; 0 before they have met."""
    import torch.distributed as dist

    return dist.get_rank() if num_processes() > 1 else 0


def deal(num_rows: int, count: int) -> list[slice]:
    """Return contiguous slices of ``num_rows``, one per process; sizes differ by 1 at most."""
    least, more = divmod(num_rows, count)
    bounds = [number * least + min(number, more) for number in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(bounds)]


def exchange(item: T) -> list[T]:
    """Return the objects of all processes, in the order of their ranks."""
    import torch.distributed as dist

    if num_processes() == 1:
        return [item]
    items: list[T] = [item] * num_processes()
    dist.all_gather_object(items, item)
    return items


def sum_over_processes(values: Tensor) -> Tensor:
    """Return the sum of a tensor that has the same shape in every process; no gradient."""
    import torch
    import torch.distributed as dist

    if num_processes() > 1:
        values = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(values)
    return values


def largest_over_processes(values: Tensor) -> Tensor:
    """Return the largest of a tensor that has the same shape in every process."""
    import torch
    import torch.distributed as dist

    if num_processes() > 1:
        values = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
    return values


class JointProcesses:
    """The processes of a joint batch (:class:`mlcore.protocols.ProcessGroup`)."""

    @property
    def rank(self) -> int:
        """This process's number, from 0."""
        return rank()

    @property
    def count(self) -> int:
        """How many there are."""
        return num_processes()

    add_up = staticmethod(sum_over_processes)
    largest = staticmethod(largest_over_processes)


def join_rows(rows: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the rows of all processes, one process's after the other's; no gradient.

    Args:
        rows: ``(b, ...)``, of one dtype and shape after the first axis everywhere.
        sizes: ``b`` of every process; they add up to ``B``.

    Returns:
        ``(B, ...)``, the same in every process.
    """
    import torch
    import torch.distributed as dist

    if num_processes() == 1:
        return rows
    most = max(sizes)
    mine = rows.new_zeros((most, *rows.shape[1:]))
    mine[: len(rows)] = rows
    parts = [torch.empty_like(mine) for _ in sizes]
    dist.all_gather(parts, mine)
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


def require_accelerator(accelerator: str) -> None:
    """Raise ConfigError if a GPU is asked for and PyTorch finds none."""
    import torch

    if accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError(
            "--training.accelerator gpu needs a GPU, and PyTorch finds none; use auto or cpu"
        )


_FILES_PER_WORKER = 5
"""Open files per data-loading process: its queue, its end and tensors that it passes on.

Tried with a limit of 64 and batches of 8 tensors: 5 workers go through, 6 do not; with a
limit of 40, not even 2.
"""
_FILES_TO_SPARE = 30
"""Open files of a run itself: logs, checkpoints, batches that have arrived."""


def require_open_files(num_workers: int) -> None:
    """Refuse data-loading processes for which this process may not open enough files.

    torch passes tensors between processes as open files; without them, workers fail for ever.

    Raises:
        ConfigError: The limit of open files is too low; names it.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    import psutil

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = psutil.Process().num_fds() + num_workers * _FILES_PER_WORKER + _FILES_TO_SPARE
    if num_workers and limit != resource.RLIM_INFINITY and needed > limit:
        raise ConfigError(
            f"--training.num_workers {num_workers} needs about {needed} open files, and the "
            f"limit is {limit}; raise it, as with 'ulimit -n 4096', or use fewer processes"
        )
