"""How many threads find a core that other processes leave them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

resource: Any
try:
    import resource
except ImportError:  # Windows has none
    resource = None

WINDOW_S = 0.2
"""Seconds that the threads spend on cores, together, before each decision."""
MOST_SWITCHES_PER_S = 150.0
"""Involuntary switches per such second: 25 to 60 on two idle cores, 190 to 600 beside one or
two busy processes, 800 and more with four threads on two cores."""
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 16.0
"""Between two tries with all threads."""


class Cores:
    """Decides how many threads work, by how often the system takes one off its core.

    Threads wait for each other at the end of a walk, for tiles and for Python's lock. One that
    is taken off its core for another process's sake holds up all: beside one busy process, two
    threads on two cores took up to twice as long as one. So when that happens often, half as
    many threads are used, and all are tried again after a pause, twice as long each time that
    they still find no cores. No bit depends on the number of threads.

    Args:
        clock: Returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._limit: int | None = None
        self._limited_until_s = 0.0
        self._pause_s = SHORTEST_PAUSE_S
        self._switches, self._core_s = 0, 0.0

    def threads(self, wanted: int) -> int:
        """Return how many of the threads wanted to use now."""
        with self._lock:
            if self._limit is not None and self._clock() >= self._limited_until_s:
                self._limit = None
            return wanted if self._limit is None else min(wanted, self._limit)

    @contextlib.contextmanager
    def watched(self, threads: int) -> Iterator[None]:
        """Watch the calling thread, one of so many."""
        before = _used()
        try:
            yield
        finally:
            after = _used()
            self.add(threads, after[0] - before[0], after[1] - before[1])

    def add(self, threads: int, switches: int, core_s: float) -> None:
        """Take into account what one of so many threads met with.

        Args:
            threads: How many work.
            switches: How often this one was taken off its core.
            core_s: Seconds it spent on one.
        """
        with self._lock:
            self._switches += switches
            self._core_s += core_s
            if self._core_s < WINDOW_S:
                return
            crowded = self._switches > MOST_SWITCHES_PER_S * self._core_s
            self._switches, self._core_s = 0, 0.0
            if crowded:
                if self._limit is None:
                    self._limited_until_s = self._clock() + self._pause_s
                    self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
                self._limit = max(1, threads // 2)
            elif self._limit is None:
                self._pause_s = SHORTEST_PAUSE_S


cores = Cores()


def _used() -> tuple[int, float]:
    """Return how often the calling thread was taken off its core, and its seconds on cores.

    Only Linux counts that for a thread; elsewhere both are 0, and all threads always work.
    """
    if not hasattr(resource, "RUSAGE_THREAD"):
        return 0, 0.0
    used = resource.getrusage(resource.RUSAGE_THREAD)
    return used.ru_nivcsw, used.ru_utime + used.ru_stime
