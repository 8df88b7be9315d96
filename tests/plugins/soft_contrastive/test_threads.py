"""Threads that take whole tiles: everything once, in turn where tiles touch, forks survived."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mlcore_soft_contrastive import dispatch, pairwise_distance
from mlcore_soft_contrastive.tiled.layout import _in_rounds
from mlcore_soft_contrastive.tiled.threads import in_turns, mean, own_threads, share

Route = Callable[[int, float, int], tuple[Tensor, Tensor, Tensor]]
Evaluate = Callable[..., tuple[Tensor, Tensor, str]]


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_what_touches_the_same_comes_in_the_order_given(threads: int) -> None:
    pairs = [(k % 7, (3 * k) % 5) for k in range(200)]
    seen: dict[int, list[int]] = {thing: [] for thing in range(7)}
    busy: set[int] = set()

    def work(k: int) -> None:
        things = set(pairs[k])
        assert not things & busy
        busy.update(things)
        for thing in things:
            seen[thing].append(k)
        busy.difference_update(things)

    in_turns(work, range(200), lambda k: pairs[k], threads)
    for thing, numbers in seen.items():
        assert numbers == [k for k in range(200) if thing in pairs[k]]


@pytest.mark.parametrize("threads", [2, 3])
def test_several_threads_work(threads: int) -> None:
    """Each item waits for the others, which one thread would do for ever."""
    together = threading.Barrier(threads, timeout=60.0)
    in_turns(lambda _: together.wait() and None, range(threads), lambda k: [k], threads)
    assert not together.broken


def test_a_thread_held_up_holds_up_only_what_touches_its_item() -> None:
    others_done = threading.Event()
    done: list[int] = []

    def work(k: int) -> None:
        if k == 0:
            assert others_done.wait(timeout=60.0)
        done.append(k)
        if len(done) == 8:  # all but the first, and the one that waits for it
            others_done.set()

    in_turns(work, range(10), lambda k: ["first" if k in (0, 9) else k], 2)
    assert sorted(done[:8]) == list(range(1, 9))
    assert done[8:] == [0, 9]


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_an_error_in_any_thread_is_raised(broken: int) -> None:
    def work(k: int) -> None:
        if k == broken:
            raise ValueError(f"item {k}")

    with pytest.raises(ValueError, match=f"item {broken}"):
        in_turns(work, range(3), lambda _: ["one thing"], 3)
    in_turns(lambda _: None, range(3), lambda k: [k], 3)  # the threads are still there


def test_torch_is_single_threaded_inside_and_as_before_outside() -> None:
    torch.set_num_threads(3)
    inside: list[int] = []
    in_turns(lambda _: inside.append(torch.get_num_threads()), range(9), lambda k: [k], 3)
    fresh: list[int] = []
    thread = threading.Thread(target=lambda: fresh.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert inside == [1] * 9
    assert torch.get_num_threads() == 3
    assert fresh == [3]
    torch.set_num_threads(1)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_share_covers_everything_once(size: int) -> None:
    done: list[int] = []
    share(lambda start, stop: done.extend(range(start, stop)), size, 3)
    assert sorted(done) == list(range(size))


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_does_not_wait_for_threads_it_has_not() -> None:
    in_turns(lambda _: None, range(3), lambda k: [k], 3)  # the parent's threads are there
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        done: list[int] = []
        in_turns(done.append, range(10), lambda k: [k], 3)
        os._exit(0 if sorted(done) == list(range(10)) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (4, 4), (5, 5), (3, 7), (7, 3)])
@pytest.mark.parametrize("symmetric", [True, False])
def test_rounds_cover_the_matrix_in_disjoint_tiles(
    rows: int, columns: int, symmetric: bool
) -> None:
    if symmetric and rows != columns:
        return
    numbers = _in_rounds(rows, columns, symmetric)
    expected = {(i, j) for i in range(rows) for j in range(columns) if i <= j or not symmetric}
    assert len(numbers) == len(expected)
    assert set(numbers) == expected
    rounds: dict[int, list[int]] = {}
    for i, j in numbers:
        things = [i] if symmetric and i == j else [i, j if symmetric else -1 - j]
        rounds.setdefault((i + j) % max(rows, columns), []).extend(things)
    assert all(len(set(things)) == len(things) for things in rounds.values())
    assert [(i + j) % max(rows, columns) for i, j in numbers] == sorted(
        (i + j) % max(rows, columns) for i, j in numbers
    )


@pytest.mark.parametrize("mining", [True, False])
@pytest.mark.parametrize("length_m", [60.0, 2000.0])
def test_no_bit_depends_on_the_number_of_threads(
    mining: bool,
    length_m: float,
    route: Route,
    evaluate: Evaluate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dispatch, "CPU_TILE", 16)
    monkeypatch.setattr(dispatch, "SMALL_BATCH", 0)
    embeddings, positions, headings = route(203, length_m, 3)
    options: dict[str, Any] = {"headings_rad": headings, "heading_limit_rad": 1.5}
    expected = evaluate(embeddings.float(), positions, mining=mining, **options)
    for threads in (2, 5, 2):
        torch.set_num_threads(threads)
        actual = evaluate(embeddings.float(), positions, mining=mining, **options)
        assert torch.equal(actual[0], expected[0])
        assert torch.equal(actual[1], expected[1])
        with torch.inference_mode():
            distances = pairwise_distance(positions)
        torch.set_num_threads(1)
        assert torch.equal(distances, pairwise_distance(positions))


@pytest.mark.parametrize("size", [200, 300, 1100])
def test_default_tiles_give_the_same_bits_for_any_number_of_threads(
    size: int, route: Route, evaluate: Evaluate
) -> None:
    """1,100 images are six tiles, for all threads; fewer are for one thread of several."""
    embeddings, positions, _ = route(size, 2000.0, 4)
    expected = evaluate(embeddings.float(), positions, implementation="tiled")
    assert expected[2] == "tiled-numba"
    for threads in (2, 5):
        torch.set_num_threads(threads)
        actual = evaluate(embeddings.float(), positions, implementation="tiled")
        torch.set_num_threads(1)
        assert torch.equal(actual[0], expected[0])
        assert torch.equal(actual[1], expected[1])


@pytest.mark.parametrize("size", [1, 2**14, 2**14 + 1, 100_000])
def test_a_mean_has_the_same_bits_for_any_number_of_threads(size: int) -> None:
    values = torch.rand(size, generator=torch.Generator().manual_seed(0))
    expected = mean(values)
    torch.testing.assert_close(expected.double(), values.double().mean(), rtol=1e-6, atol=0)
    for threads in (2, 3, 8):
        torch.set_num_threads(threads)
        actual = mean(values)
        torch.set_num_threads(1)
        assert torch.equal(actual, expected)


def test_a_single_item_is_worked_on_by_one_thread_of_torch() -> None:
    torch.set_num_threads(3)
    inside: list[int] = []
    in_turns(lambda _: inside.append(torch.get_num_threads()), range(1), lambda k: [k], 3)
    torch.set_num_threads(1)
    assert inside == [1]


def test_torch_has_its_threads_again_after_an_error() -> None:
    def broken() -> None:
        with own_threads(2):
            inside.append(torch.get_num_threads())
            raise RuntimeError("broken")

    torch.set_num_threads(3)
    inside: list[int] = []
    with pytest.raises(RuntimeError, match="broken"):
        broken()
    outside = torch.get_num_threads()
    torch.set_num_threads(1)
    assert (inside, outside) == ([1], 3)


def test_threads_are_left_to_torch_where_the_work_has_none() -> None:
    torch.set_num_threads(3)
    with own_threads(None):
        inside = torch.get_num_threads()
    torch.set_num_threads(1)
    assert inside == 3
