"""How many threads work beside other processes."""

from __future__ import annotations

import pytest

from mlcore_soft_contrastive.tiled import cores as module
from mlcore_soft_contrastive.tiled.cores import (
    LONGEST_PAUSE_S,
    MOST_SWITCHES_PER_S,
    SHORTEST_PAUSE_S,
    WINDOW_S,
    Cores,
    Used,
)

OFTEN = int(2 * MOST_SWITCHES_PER_S * WINDOW_S)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cores(clock: Clock) -> Cores:
    return Cores(clock)


def test_all_threads_work_while_they_are_left_alone(cores: Cores) -> None:
    for _ in range(10):
        cores.add(8, [Used(OFTEN // 4, WINDOW_S)])
        assert cores.threads(8) == 8


def test_half_as_many_work_each_time_that_they_are_taken_off(cores: Cores) -> None:
    seen = []
    for _ in range(5):
        threads = cores.threads(8)
        seen.append(threads)
        cores.add(threads, [Used(OFTEN, WINDOW_S)])
    assert seen == [8, 4, 2, 1, 1]


def test_a_few_switches_in_a_short_time_decide_nothing(cores: Cores) -> None:
    cores.add(8, [Used(OFTEN, WINDOW_S / 2)])
    assert cores.threads(8) == 8
    cores.add(8, [Used(0, WINDOW_S * 10)])  # the same switches, in a long time
    assert cores.threads(8) == 8


def test_all_are_tried_again_after_pauses_that_double_in_vain(
    cores: Cores, clock: Clock
) -> None:
    pauses = []
    for _ in range(8):
        cores.add(cores.threads(4), [Used(OFTEN, WINDOW_S)])
        start = clock.now_s
        while cores.threads(4) < 4:
            clock.now_s += SHORTEST_PAUSE_S / 4
        pauses.append(clock.now_s - start)
    assert pauses == [1, 2, 4, 8, 16, 16, 16, 16]
    assert pauses[-1] == LONGEST_PAUSE_S
    cores.add(4, [Used(0, WINDOW_S)])  # alone again
    cores.add(4, [Used(OFTEN, WINDOW_S)])
    clock.now_s += SHORTEST_PAUSE_S
    assert cores.threads(4) == 4


def test_what_other_numbers_of_threads_met_with_does_not_count(cores: Cores) -> None:
    cores.add(8, [Used(OFTEN, WINDOW_S / 2)])
    cores.add(2, [Used(0, WINDOW_S)])
    assert cores.threads(8) == 8


def test_all_threads_count(cores: Cores) -> None:
    cores.add(2, [Used(OFTEN // 2, WINDOW_S / 2), Used(OFTEN // 2, WINDOW_S / 2)])
    assert cores.threads(2) == 1


def test_where_threads_are_not_counted_all_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "resource", None)
    assert Used.now() == Used()


def test_seconds_on_a_core_are_counted() -> None:
    before = Used.now()
    sum(range(2_000_000))
    used = Used.now() - before
    assert used.core_s > 0.0
    assert used.switches >= 0
