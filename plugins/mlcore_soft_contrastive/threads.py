"""Sharing compiled work among threads that wait without spinning."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch


def share(work: Callable[[int, int], None], size: int) -> None:
    """Call ``work(start, stop)`` on slices of ``range(size)``, in as many threads as torch has.

    For functions that release the interpreter's lock. numba's own threads are not used:
    under OpenMP they and torch's would wait for each other spinning, which on a busy
    machine takes longer than the work.
    """
    threads = max(1, min(torch.get_num_threads(), size))
    cuts = itertools.pairwise([size * k // threads for k in range(threads + 1)])
    first, *others = list(cuts)
    started = [_pool(os.getpid(), threads).submit(work, *cut) for cut in others]
    work(*first)
    for other in started:
        other.result()


@functools.cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Return threads to share work with, new ones in a forked ``process``."""
    return ThreadPoolExecutor(threads, f"mlcore-tiles-{process}")
