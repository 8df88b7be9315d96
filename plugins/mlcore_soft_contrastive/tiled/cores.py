"""How many threads find a core that other processes leave them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Used:
    """What a thread used.

    Attributes:
        switches: How often the system took it off its core.
        core_s: Seconds it spent on one.
    """

    switches: int = 0
    core_s: float = 0.0

    @classmethod
    def now(cls) -> Used:
        """Return what the calling thread has used so far.

        Only Linux counts that for a thread; elsewhere it is nothing, and all threads work.
        """
        if not hasattr(resource, "RUSAGE_THREAD"):
            return cls()
        used = resource.getrusage(resource.RUSAGE_THREAD)
        return cls(used.ru_nivcsw, used.ru_utime + used.ru_stime)

    def __add__(self, other: Used) -> Used:
        return Used(self.switches + other.switches, self.core_s + other.core_s)

    def __sub__(self, other: Used) -> Used:
        return Used(self.switches - other.switches, self.core_s - other.core_s)


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
        self._seen_with, self._seen = 0, Used()

    def threads(self, wanted: int) -> int:
        """Return how many of the threads wanted to use now."""
        with self._lock:
            if self._limit is not None and self._clock() >= self._limited_until_s:
                self._limit = None
            return wanted if self._limit is None else min(wanted, self._limit)

    def add(self, threads: int, used: Sequence[Used]) -> None:
        """Take into account what so many threads used while they worked at the same time."""
        with self._lock:
            if threads != self._seen_with:
                self._seen_with, self._seen = threads, Used()
            for one in used:
                self._seen += one
            if self._seen.core_s < WINDOW_S:
                return
            crowded = self._seen.switches > MOST_SWITCHES_PER_S * self._seen.core_s
            self._seen = Used()
            if crowded:
                if self._limit is None:
                    self._limited_until_s = self._clock() + self._pause_s
                    self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
                self._limit = max(1, threads // 2)
            elif self._limit is None:
                self._pause_s = SHORTEST_PAUSE_S


cores = Cores()
