"""Threads that each take a whole tile, and wait for each other only where tiles touch.

Several threads inside one matrix product or one elementwise step would meet at a barrier
several times per tile, and each time wait for whichever thread the system has taken off its
core. Here torch computes single-threaded in every thread, and a thread that is held up
delays only tiles with the same rows or columns.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from mlcore_soft_contrastive.tiled.cores import Used, cores

T = TypeVar("T")

ONE_THREAD = 2**14
"""torch gives a sum of fewer than 32,768 numbers to one thread."""


def in_turns(
    work: Callable[[T], None],
    items: Sequence[T],
    touched: Callable[[T], Iterable[Hashable]],
    threads: int,
) -> None:
    """Call ``work`` on each item, in several threads.

    Items that touch the same thing are worked on one after the other, in the order given.
    What they add up there is the same to the last bit, whatever the number of threads and
    their timing.

    Args:
        work: Called once per item; an exception in any thread is raised here.
        items: What to work on.
        touched: What of the shared data the work on an item reads and writes.
        threads: With 1, everything is done in the calling thread.
    """
    if threads <= 1 or not items:
        for item in items:
            work(item)
        return
    turns = _Turns([set(touched(item)) for item in items])

    def work_off() -> Used:
        before = Used.now()
        # Tensors made in the caller's inference mode may be changed in that mode only.
        with torch.inference_mode():
            while (k := turns.take()) is not None:
                try:
                    work(items[k])
                except BaseException:
                    turns.stop()
                    raise
                turns.finish(k)
        return Used.now() - before

    # One item goes to a thread of the pool too: here, torch would share it among threads.
    started = [_pool(threads).submit(work_off) for _ in range(min(threads, len(items)))]
    try:
        used = [future.result() for future in started]
    finally:
        turns.stop()
    if len(started) == threads:
        cores.add(threads, used)


def share(work: Callable[[int, int], None], size: int, threads: int) -> None:
    """Call ``work(start, stop)`` on slices of ``range(size)``, one per thread."""
    threads = min(threads, size)
    if threads <= 1:
        work(0, size)
        return
    slices = list(itertools.pairwise([size * k // threads for k in range(threads + 1)]))
    in_turns(lambda piece: work(*piece), slices, lambda piece: [piece], threads)


def mean(values: Tensor) -> Tensor:
    """Return the mean of a vector, the same to the last bit for any number of threads.

    torch's own splits a long sum among its threads, and so rounds it in other places.
    """
    if len(values) <= ONE_THREAD:
        return values.mean()
    parts = [values[k : k + ONE_THREAD].sum() for k in range(0, len(values), ONE_THREAD)]
    return torch.stack(parts).sum() / len(values)


@contextlib.contextmanager
def own_threads(threads: int | None) -> Iterator[None]:
    """Keep torch to one thread in the calling thread, where the work has threads of its own.

    Between the walks, torch's threads would meet at a barrier in every step and wait there for
    one that another process keeps from its core, and spin beside ours afterwards. Another
    thread whose first call of torch falls into this time stays with one.

    Args:
        threads: How many the work has; None leaves threads to torch.
    """
    before = torch.get_num_threads()
    if threads is None or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Turns:
    """Which of some items, by number, may be worked on next.

    Args:
        touched: What each item touches.
    """

    def __init__(self, touched: list[set[Hashable]]) -> None:
        self._changed = threading.Condition()
        self._left = len(touched)
        self._followers: list[list[int]] = [[] for _ in touched]
        self._waits_for = [0] * len(touched)
        last: dict[Hashable, int] = {}
        for k, things in enumerate(touched):
            for thing in things:
                if thing in last:
                    self._followers[last[thing]].append(k)
                    self._waits_for[k] += 1
                last[thing] = k
        self._ready = [k for k, number in enumerate(self._waits_for) if number == 0]

    def take(self) -> int | None:
        """Return the first item whose turn has come; wait for one; None when all are done."""
        with self._changed:
            while self._left and not self._ready:
                self._changed.wait()
            return heapq.heappop(self._ready) if self._left else None

    def finish(self, k: int) -> None:
        """Let those have their turn that waited for ``k`` alone."""
        with self._changed:
            self._left -= 1
            for follower in self._followers[k]:
                self._waits_for[follower] -= 1
                if self._waits_for[follower] == 0:
                    heapq.heappush(self._ready, follower)
            self._changed.notify_all()

    def stop(self) -> None:
        """Hand out no more items."""
        with self._changed:
            self._left = 0
            self._changed.notify_all()


_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}
_pools_lock = threading.Lock()


def _pool(threads: int) -> ThreadPoolExecutor:
    """Return so many threads in which torch computes single-threaded; new ones after a fork."""
    key = os.getpid(), threads
    with _pools_lock:
        if key not in _pools:
            _pools[key] = _started_pool(threads)
        return _pools[key]


def _started_pool(threads: int) -> ThreadPoolExecutor:
    # torch keeps a number of threads for each thread, and one for threads to come. Setting
    # it in a new thread changes both; setting it here again brings back the second.
    before = torch.get_num_threads()
    all_started = threading.Barrier(threads + 1)

    def start() -> None:
        torch.set_num_threads(1)
        torch.get_num_threads()  # a thread takes its number over at its first use
        all_started.wait()

    pool = ThreadPoolExecutor(threads, "mlcore-tiles", initializer=start)
    for _ in range(threads):  # each starts a thread, as none is idle before the barrier
        pool.submit(int)
    all_started.wait()
    torch.set_num_threads(before)
    return pool
