"""Run many training runs: sequentially, in parallel, or as cluster jobs.

A run is described by its configuration as TOML and its folder, so any process with access to
the disk can execute it. Afterwards the folder records how the run ended.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from mlcore.cli.train_run import train_and_evaluate
from mlcore.errors import (
    ConfigError,
    DataError,
    MlcoreError,
    NonFiniteLossError,
    WorkerError,
    require_library,
)
from mlcore.options import run_from_text
from mlcore.registry.discovery import Registry
from mlcore.run_folder import RunFolder

if TYPE_CHECKING:
    from multiprocessing.queues import Queue
    from multiprocessing.synchronize import Event

    from mlcore.evaluation.results import Evaluation

Ending = Literal["finished", "diverged", "interrupted", "terminated"]
Attempt = tuple[Ending, MlcoreError | None]
Launch = Callable[[Sequence["Task"]], Iterator[tuple["Task", Ending]]]
"""Runs tasks and yields each when it ends."""

_FAILURE = "failure.json"


class Task(NamedTuple):
    """One run.

    Attributes:
        config: Its configuration, as TOML.
        out: Its folder; an interrupted run in it is continued.
        split: Split it is evaluated on.
        block: Plugins that are not loaded.
    """

    config: str
    out: Path
    split: Literal["test", "validation"] = "test"
    block: tuple[str, ...] = ()

    @property
    def has_ended(self) -> bool:
        """Whether it finished or diverged."""
        return RunFolder(self.out).evaluation.exists() or (self.out / _FAILURE).exists()

    @property
    def learning_rate(self) -> float:
        """The learning rate of the run on disk."""
        path = RunFolder(self.out).config
        try:
            options = tomllib.loads(path.read_text(encoding="utf-8"))
            return float(options["training"]["learning_rate"])
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            raise DataError(f"{path} is not the configuration of a run: {error}") from error

    def results(self) -> list[Evaluation] | str:
        """Return the evaluations of the run that has ended, or why it diverged."""
        from mlcore.evaluation.documents import from_document

        folder = RunFolder(self.out)
        if (self.out / _FAILURE).exists():
            return str(folder.read_json(self.out / _FAILURE)["error"])
        return from_document(folder.read_json(folder.evaluation))


def perform(task: Task) -> Ending:
    """Execute one run in this process, from its newest checkpoint if it has one."""
    folder = RunFolder(task.out)
    new = not folder.config.exists()
    if new and task.out.exists():
        shutil.rmtree(task.out)  # killed before it had a configuration
    registry = Registry.discover(block=task.block)
    config = run_from_text(task.config, folder.config, registry)
    try:
        outcome = train_and_evaluate(config, registry, task.out, new=new, split=task.split)
    except NonFiniteLossError as error:
        folder.write_json(task.out / _FAILURE, {"error": str(error)})
        return "diverged"
    return outcome.ending


@contextmanager
def one_by_one() -> Iterator[Launch]:
    """Execute the runs in this process, with progress bars."""

    def launch(tasks: Sequence[Task]) -> Iterator[tuple[Task, Ending]]:
        for task in tasks:
            yield task, perform(task)

    yield launch


@contextmanager
def several_at_once(num: int, logs: Path) -> Iterator[Launch]:
    """Execute the runs in ``num`` processes that share the cores, and the GPUs if any.

    The output of each run goes to a file in ``logs``. An exception stops the runs at their next
    step, with a checkpoint.
    """
    logs.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    gpus: Queue[str] = context.Queue()
    for number in range(num):
        gpus.put(_gpu(number))
    threads = max(1, (os.cpu_count() or 1) // num)
    stop = context.Event()
    pool = ProcessPoolExecutor(num, context, _start_worker, (threads, gpus, stop))

    def launch(tasks: Sequence[Task]) -> Iterator[tuple[Task, Ending]]:
        futures = {pool.submit(_perform_in_worker, task, logs): task for task in tasks}
        for future in as_completed(futures):
            try:
                ending, error = future.result()
            except BrokenProcessPool:
                raise WorkerError(
                    f"a process died during a run (out of memory?); see the newest file in "
                    f"{logs}. Run the same command again to continue"
                ) from None
            if error is not None:
                raise error
            yield futures[future], ending

    try:
        yield launch
    except BaseException:
        stop.set()  # for a run that the pool has already queued to a worker
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def on_slurm(
    num: int | None, folder: Path, options: Mapping[str, int | str]
) -> Iterator[Launch]:
    """Submit the runs as a job array, ``num`` at once; submitit's files go to ``folder``.

    A job that reaches its time limit is queued again and continues.

    Raises:
        ConfigError: submitit or SLURM is missing, or sbatch has no such option.
    """
    executor = _slurm(num, folder, options)
    from submitit.core.utils import UncompletedJobError
    from submitit.helpers import as_completed as jobs_as_completed

    jobs: list[Any] = []

    def launch(tasks: Sequence[Task]) -> Iterator[tuple[Task, Ending]]:
        with executor.batch():
            jobs[:] = [executor.submit(_Requeued(), task) for task in tasks]
        waiting = dict(zip(jobs, tasks, strict=True))
        for job in jobs_as_completed(jobs):
            try:
                ending, error = job.result()
            except UncompletedJobError as fault:  # a failed job is one
                raise WorkerError(f"job {job.job_id} failed: {fault}") from None
            if error is not None:
                raise error
            yield waiting[job], ending

    try:
        yield launch
    except BaseException:
        for job in jobs:
            with suppress(OSError):  # the original error matters more than a failing scancel
                job.cancel(check=False)
        raise


def _slurm(num: int | None, folder: Path, options: Mapping[str, int | str]) -> Any:
    require_library("--launcher slurm", "submitit", "mlcore-localization[cluster]")
    from submitit import SlurmExecutor

    at_once = {} if num is None else {"array_parallelism": num}
    try:
        executor = SlurmExecutor(folder)
        executor.update_parameters(**options, **at_once)
    except RuntimeError as error:
        raise ConfigError(f"--launcher slurm: {error}") from error
    except ValueError as error:
        raise ConfigError(f"--slurm: {error}") from error
    return executor


class _Requeued:
    """The function of a job; submitit calls ``checkpoint`` at the time limit."""

    def __call__(self, task: Task) -> Attempt:
        return _attempt(task)

    def checkpoint(self, task: Task) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, task)


_stop: Event
"""In a worker: set when no further run may start."""


def _start_worker(threads: int, gpus: Queue[str], stop: Event) -> None:
    global _stop  # noqa: PLW0603 - how a pool hands its workers what cannot be pickled later
    _stop = stop
    os.environ["OMP_NUM_THREADS"] = str(threads)  # torch is not imported yet
    gpu = gpus.get()
    if gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    # An idle worker leaves Ctrl-C to the main process; see _perform_in_worker.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Exit immediately if the command is killed, because another may use the same folders."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _perform_in_worker(task: Task, logs: Path) -> Attempt:
    if _stop.is_set():
        return "interrupted", None
    name = f"{task.out.parent.name}-{task.out.name}.txt"
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with (
            (logs / name).open("a", buffering=1, encoding="utf-8") as log,
            redirect_stderr(log),
        ):
            return _attempt(task)
    except KeyboardInterrupt:
        return "interrupted", None
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _attempt(task: Task) -> Attempt:
    """Execute one run; return an error to the process that launched it."""
    try:
        return perform(task), None
    except MlcoreError as error:
        # Not the error itself: pickle fails if its constructor takes more than a message.
        return "interrupted", MlcoreError(f"{task.out}: {error}")


def _gpu(number: int) -> str:
    """Return a worker's value of CUDA_VISIBLE_DEVICES; empty without GPUs."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible:
        names = visible.split(",")
    else:
        import torch

        names = [str(gpu) for gpu in range(torch.cuda.device_count())]
    return names[number % len(names)] if names else ""
