"""The number of processes of a run, who starts them, and Lightning's strategy."""

from __future__ import annotations

import gc
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy, Strategy

from mlcore.distributed import RUN_FOLDER, is_slurm_step, was_started_by_first
from mlcore.errors import ConfigError

if TYPE_CHECKING:
    from mlcore.options.engine import TrainingOptions


_MEETING = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
"""Environment variables by which Lightning's processes on several machines find each other."""
_FEW = 4
"""Processes that any CPU can run, to try out several of them."""


@dataclass(frozen=True)
class Processes:
    """The processes of a run.

    Attributes:
        devices: Processes on each machine, one per device.
        num_nodes: Machines.
        launcher: Who starts them: "lightning", "torchrun" or "slurm".
    """

    devices: int
    num_nodes: int
    launcher: str

    @classmethod
    def of(cls, options: TrainingOptions) -> Processes:
        """Return the processes of the options, or those that torchrun or SLURM has started.

        Raises:
            ConfigError: The options require another number than was started.
        """
        asked = cls(options.devices, options.num_nodes, "lightning")
        started = _started()
        if started is None:
            return asked
        if asked.count not in (1, started.count):
            raise ConfigError(
                f"{started.launcher} has started {started.count} processes, but "
                f"--training.devices {asked.devices} and --training.num_nodes "
                f"{asked.num_nodes} require {asked.count}; remove both "
                "options, or make the numbers match"
            )
        return started

    @property
    def count(self) -> int:
        """How many there are."""
        return self.devices * self.num_nodes

    def require_possible(self, accelerator: str) -> None:
        """Refuse processes that this machine has no devices for, or that would never meet.

        Raises:
            ConfigError: There are fewer devices, or nothing says where the machines meet.
        """
        if self.launcher != "lightning":
            return  # torchrun and SLURM have started them
        missing = [name for name in _MEETING if name not in os.environ]
        if self.num_nodes > 1 and missing:
            raise ConfigError(
                f"--training.num_nodes {self.num_nodes} needs torchrun or srun to start the "
                f"command, or on each machine the environment variables {', '.join(_MEETING)} "
                "(address and port of the first machine; 0, 1, ... for this one); not set: "
                f"{', '.join(missing)}"
            )
        on_gpu = accelerator != "cpu" and torch.cuda.is_available()
        most = torch.cuda.device_count() if on_gpu else max(os.cpu_count() or 1, _FEW)
        if self.devices > most:
            has = f"{most} GPUs" if on_gpu else f"{os.cpu_count()} CPU cores"
            raise ConfigError(
                f"--training.devices {self.devices}: this machine has {has}; use at most {most}"
            )

    def for_trainer(self) -> dict[str, Any]:
        """Return the trainer's arguments for them, apart from its plugins."""
        strategy: str | Strategy = "auto" if self.count == 1 else JointBatchStrategy()
        return {"devices": self.devices, "num_nodes": self.num_nodes, "strategy": strategy}

    def environment(self) -> ClusterEnvironment:
        """Return Lightning's description of who starts the processes.

        It is always given: left to itself, Lightning takes a shell on a SLURM node for a job
        step, and puts checkpoints of its own into the run folder to requeue the job.
        """
        if self.launcher == "slurm":
            return SLURMEnvironment(auto_requeue=False)
        return (
            TorchElasticEnvironment() if self.launcher == "torchrun" else LightningEnvironment()
        )


def _started() -> Processes | None:
    """Return the processes that another program has started; None if this was alone."""
    environment = os.environ
    if TorchElasticEnvironment.detect():
        here, everywhere = int(environment["LOCAL_WORLD_SIZE"]), int(environment["WORLD_SIZE"])
        return Processes(here, everywhere // here, "torchrun")
    if is_slurm_step():
        tasks, nodes = (
            int(environment["SLURM_NTASKS"]),
            int(environment.get("SLURM_NNODES", "1")),
        )
        return Processes(tasks // nodes, nodes, "slurm")
    return None


class JointBatchStrategy(DDPStrategy):
    """Lightning's processes and devices, without its averaging of gradients.

    The gradient of the joint batch is a sum, over losses that are no mean over processes
    and in a backward pass of two parts: :func:`mlcore.training.joint.add_up_gradients`
    does it. So the module is not wrapped; here all processes get the first one's weights.
    """

    def configure_ddp(self) -> None:
        """Start from the same weights everywhere."""
        assert self.model is not None
        for tensor in self.model.state_dict().values():
            dist.broadcast(tensor, src=0)


def stop_others() -> None:
    """End the processes that Lightning started for this one, which is about to fail.

    They would wait for it in a collective operation, on GPUs for half an hour. Lightning
    watches them from a thread and kills this process too, before it can say why it failed, when
    one of them ends with a code other than 0. So the handles that it polls are given code 0
    first: :meth:`subprocess.Popen.poll` asks the system only while there is no code. All are
    halted first, so that none ends by itself because others are missing.
    """
    if was_started_by_first():
        return  # it started data-loading processes only
    others = list(_started_processes())
    for other in others:
        with suppress(psutil.NoSuchProcess):
            other.suspend()
    pids = {other.pid for other in others}
    for handle in gc.get_objects():
        if type(handle) is subprocess.Popen and handle.pid in pids:
            handle.returncode = 0
    for other in others:
        with suppress(psutil.NoSuchProcess, ChildProcessError):  # ended and reaped meanwhile
            other.kill()
            os.waitpid(other.pid, 0)


def _started_processes() -> Iterator[psutil.Process]:
    """Yield the running child processes that train the same run: no data-loading ones."""
    for child in psutil.Process().children():
        try:
            environment = child.environ()
        except psutil.Error:
            continue  # it has ended
        if RUN_FOLDER in environment and environment.get("LOCAL_RANK", "0") != "0":
            yield child
