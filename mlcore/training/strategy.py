"""How many processes a run has, who starts them, and what Lightning is to do for them."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy, Strategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from mlcore.distributed import is_slurm_step
from mlcore.errors import ConfigError

if TYPE_CHECKING:
    from mlcore.options.engine import TrainingOptions


@dataclass(frozen=True)
class Processes:
    """The processes of a run.

    Attributes:
        devices: On each machine, one a device.
        num_nodes: Machines.
        launcher: Who starts them: "lightning", "torchrun" or "slurm".
    """

    devices: int
    num_nodes: int
    launcher: str

    @classmethod
    def of(cls, options: TrainingOptions) -> Processes:
        """Return what the options ask for, or what torchrun or SLURM has started.

        Raises:
            ConfigError: The options ask for another number than was started.
        """
        asked = cls(options.devices, options.num_nodes, "lightning")
        started = _started()
        if started is None:
            return asked
        if asked.count not in (1, started.count):
            raise ConfigError(
                f"{started.launcher} has started {started.count} processes, but "
                f"--training.devices {asked.devices} and --training.num_nodes "
                f"{asked.num_nodes} ask for {asked.count}; leave both out, or let the "
                "numbers agree"
            )
        return started

    @property
    def count(self) -> int:
        """How many there are."""
        return self.devices * self.num_nodes

    def for_trainer(self) -> dict[str, Any]:
        """Return the trainer's arguments for them, apart from its plugins."""
        strategy: str | Strategy = "auto" if self.count == 1 else JointBatchStrategy()
        return {"devices": self.devices, "num_nodes": self.num_nodes, "strategy": strategy}

    def environment(self) -> ClusterEnvironment:
        """Return what tells Lightning who starts the processes.

        It is told always: left to itself, it takes a shell on a SLURM node for a job step,
        and puts checkpoints of its own into the run folder to requeue the job.
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


def stop_others(trainer: Trainer) -> None:
    """End the processes that Lightning started for this one, which is about to fail.

    They would wait for it, on GPUs for half an hour. Lightning's observer of them is told of
    none first: it would kill this process too, before it has said why.
    """
    launcher = trainer.strategy.launcher
    if not isinstance(launcher, _SubprocessScriptLauncher):
        return
    for thread in threading.enumerate():
        if isinstance(thread, _ChildProcessObserver):
            thread._child_processes = []  # noqa: SLF001
    launcher.kill(signal.SIGKILL)
