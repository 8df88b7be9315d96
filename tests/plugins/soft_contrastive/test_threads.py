"""Work shared among threads: all of it once, errors passed on, forks survived."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator

import pytest
import torch

from mlcore_soft_contrastive.tiled import threads
from mlcore_soft_contrastive.tiled.threads import share


@pytest.fixture(params=["torch's team", "pool"])
def _either_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "pool":
        monkeypatch.setattr(threads, "_torchs_team", lambda: None)
    elif threads._torchs_team() is None:
        pytest.skip("this torch has no OpenMP runtime with GCC's interface")


@pytest.fixture(autouse=True)
def _three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_either_kind")
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_everything_is_worked_on_once(size: int) -> None:
    done: list[int] = []
    share(lambda start, stop: done.extend(range(start, stop)), size)
    assert sorted(done) == list(range(size))


@pytest.mark.usefixtures("_either_kind")
def test_several_threads_work() -> None:
    """Each piece waits for the others, which one thread would do for ever."""
    together = threading.Barrier(3, timeout=60.0)
    share(lambda _start, _stop: together.wait() and None, 3)
    assert not together.broken


@pytest.mark.usefixtures("_either_kind")
def test_an_error_in_any_thread_is_raised() -> None:
    for broken in range(3):

        def work(start: int, _stop: int, broken: int = broken) -> None:
            if start == broken:
                raise ValueError(f"piece {broken}")

        with pytest.raises(ValueError, match=f"piece {broken}"):
            share(work, 3)


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_does_not_wait_for_threads_it_has_not() -> None:
    share(lambda _start, _stop: None, 3)  # the parent's threads are there
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        done: list[int] = []
        share(lambda start, stop: done.extend(range(start, stop)), 10)
        os._exit(0 if sorted(done) == list(range(10)) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
