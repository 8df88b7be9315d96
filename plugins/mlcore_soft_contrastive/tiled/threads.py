"""Sharing compiled work among the threads that torch computes with."""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

_OMP_BODY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_IMPORTED_IN = os.getpid()


def share(work: Callable[[int, int], None], size: int) -> None:
    """Call ``work(start, stop)`` on slices of ``range(size)``, in as many threads as torch has.

    For functions that release the interpreter's lock. They are called from torch's own
    OpenMP threads where it has such: between two matrix products these wait spinning, and any
    other threads, numba's too, would have to share the cores with them.
    """
    threads = max(1, min(torch.get_num_threads(), size))
    if threads == 1:
        work(0, size)
        return
    left = iter(list(itertools.pairwise([size * k // threads for k in range(threads + 1)])))

    def work_off() -> None:
        for start, stop in left:  # whoever is late finds nothing left
            work(start, stop)

    in_team = _torchs_team()
    # No OpenMP threads survive a fork.
    if in_team is not None and os.getpid() == _IMPORTED_IN:
        _call_in(in_team, work_off, threads)
        return
    pool = _pool(os.getpid(), threads)
    for started in [pool.submit(work_off) for _ in range(threads)]:
        started.result()


def _call_in(in_team: Any, function: Callable[[], None], threads: int) -> None:
    """Call ``function`` in each of so many OpenMP threads, this one among them."""
    errors: list[BaseException] = []

    def body(_: int | None) -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - C code cannot pass it on: raised below
            errors.append(error)

    in_team(_OMP_BODY(body), None, threads, 0)
    if errors:
        raise errors[0]


@functools.cache
def _torchs_team() -> Any:
    """Return what GCC compiles an OpenMP region to, of the runtime torch is linked with.

    None if there is none: torch was built without OpenMP, or for a system whose OpenMP does
    not know GCC's interface.
    """
    try:
        in_team = ctypes.CDLL(torch._C.__file__).GOMP_parallel  # noqa: SLF001
    except (OSError, AttributeError):
        return None
    in_team.argtypes = [_OMP_BODY, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    in_team.restype = None
    return in_team


@functools.cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Return threads to share work with, new ones in a forked ``process``."""
    return ThreadPoolExecutor(threads, f"mlcore-tiles-{process}")
