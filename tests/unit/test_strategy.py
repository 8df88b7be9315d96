"""Ending the processes of a run whose first process fails."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver

from mlcore.distributed import RUN_FOLDER
from mlcore.training.strategy import stop_others

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def started():
    """Processes as Lightning starts them, and one that loads data."""
    marks = [{RUN_FOLDER: "x", "LOCAL_RANK": "1"}, {RUN_FOLDER: "x", "LOCAL_RANK": "2"}, {}]
    processes = [subprocess.Popen(SLEEP, env=mark) for mark in marks]
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def test_only_the_processes_of_the_run_are_ended(started):
    stop_others()
    first, second, loader = started
    assert (first.poll(), second.poll()) == (0, 0)  # reaped by stop_others: no code is known
    assert loader.poll() is None


def test_a_process_that_was_started_by_the_first_ends_none(started, monkeypatch):
    monkeypatch.setenv(RUN_FOLDER, "x")
    monkeypatch.setenv("LOCAL_RANK", "1")
    stop_others()
    assert all(process.poll() is None for process in started)


def test_lightnings_observer_does_not_kill_the_process_that_fails(started):
    """Seen with Lightning 2.6.6: it kills its main process when a child's code is not 0."""
    main = subprocess.Popen(SLEEP)
    observer = _ChildProcessObserver(main_pid=main.pid, child_processes=started[:2])
    over = threading.Event()

    def observe_without_a_pause():
        while not over.is_set():
            observer._run()

    thread = threading.Thread(target=observe_without_a_pause)
    thread.start()
    stop_others()
    over.set()
    thread.join()
    assert observer._run()  # all have ended, and it stops observing
    assert main.poll() is None
    main.kill()
    main.wait()
