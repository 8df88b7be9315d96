"""How much memory this process may use: the machine's, or the limit of its cgroup.

psutil reports the machine's memory but not the limits of cgroups, which containers, systemd and
SLURM use; their files are read here (``man 7 cgroups``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil


class HostMemory(NamedTuple):
    """Bytes of memory of this machine, or of the part of it that this process may use.

    Attributes:
        total: All of it.
        free: Memory available without swapping.
    """

    total: int
    free: int


def host_memory(root: Path = Path("/")) -> HostMemory:
    """Return the memory that this process may use.

    Args:
        root: Where ``proc`` and ``sys`` are.
    """
    machine = psutil.virtual_memory()
    total, free = machine.total, machine.available
    for limit, used in _cgroup_limits(root):
        total, free = min(total, limit), min(free, max(0, limit - used))
    return HostMemory(total, free)


def _cgroup_limits(root: Path) -> Iterator[tuple[int, int]]:
    """Yield limit and use of this process's memory cgroup and of each one above it.

    A child's limit may be larger than its parent's, but the parent's still applies. In a
    container the path may be the host's, of which only the mounted root is visible; a missing
    folder has no limit.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return  # not Linux
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            mount, limit, used = "sys/fs/cgroup", "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            mount, limit, used = (
                "sys/fs/cgroup/memory",
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
            )
        else:
            continue
        top = root / mount
        own = top / path.lstrip("/")
        for folder in (own, *own.parents):
            sizes = _number(folder / limit), _number(folder / used)
            if sizes[0] is not None and sizes[1] is not None:
                yield sizes[0], sizes[1]
            if folder == top:
                break


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None  # no such file, or "max": no limit
