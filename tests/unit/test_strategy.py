"""Ending the processes of a run whose first process fails."""

from __future__ import annotations

import subprocess
import sys
import threading

import psutil
import pytest
import torch
from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver

from mlcore.distributed import RUN_FOLDER, require_open_files
from mlcore.errors import ConfigError
from mlcore.training.strategy import Processes, stop_others

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


def test_machines_that_would_never_meet(monkeypatch):
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    several = Processes(1, 2, "lightning")
    with pytest.raises(ConfigError, match="num_nodes 2 needs torchrun or srun"):
        several.require_possible("cpu")
    monkeypatch.setenv("MASTER_ADDR", "10.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "29500")
    with pytest.raises(ConfigError, match=r"not set: NODE_RANK$"):
        several.require_possible("cpu")
    monkeypatch.setenv("NODE_RANK", "0")
    several.require_possible("cpu")


@pytest.mark.parametrize("launcher", ["torchrun", "slurm"])
def test_what_a_launcher_has_started_is_there(launcher):
    with pytest.raises(ConfigError, match="devices 300"):
        Processes(300, 1, "lightning").require_possible("cpu")
    Processes(300, 2, launcher).require_possible("cpu")  # torchrun has counted them


def test_more_devices_than_there_are(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    Processes(4, 1, "lightning").require_possible("cpu")
    with pytest.raises(ConfigError, match="devices 5: this machine has 2 CPU cores; use at"):
        Processes(5, 1, "lightning").require_possible("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    Processes(2, 1, "lightning").require_possible("auto")
    with pytest.raises(ConfigError, match="devices 3: this machine has 2 GPUs; use at most 2"):
        Processes(3, 1, "lightning").require_possible("auto")


def test_more_workers_than_files_may_be_open(monkeypatch):
    monkeypatch.setattr("resource.getrlimit", lambda _: (64, 64))
    monkeypatch.setattr(psutil.Process, "num_fds", lambda _: 6)
    require_open_files(0)
    require_open_files(5)
    with pytest.raises(ConfigError, match=r"num_workers 6 needs about 66 open .* limit is 64"):
        require_open_files(6)
