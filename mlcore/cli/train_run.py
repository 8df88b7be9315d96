"""One run from assembly to its evaluation, as ``train`` and ``compare`` do it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from mlcore.cli import console
from mlcore.distributed import is_first
from mlcore.errors import ConfigError
from mlcore.options import RunConfig, run_to_toml
from mlcore.protocols import Progress, no_progress
from mlcore.registry.discovery import Registry
from mlcore.run_folder import RunFolder, describe_environment

if TYPE_CHECKING:
    from mlcore.evaluation.results import Evaluation


STOPPED = {"interrupted": 130, "terminated": 143}
"""Exit codes by how a run was stopped."""


class Outcome(NamedTuple):
    """How a run ended.

    Attributes:
        ending: "finished", or how it was stopped; it can then be resumed.
        results: Of the evaluated models; empty if it was stopped.
    """

    ending: Literal["finished", "interrupted", "terminated"]
    results: list[Evaluation]


def train_and_evaluate(
    config: RunConfig,
    registry: Registry,
    out: Path,
    *,
    new: bool,
    split: Literal["test", "validation"] = "test",
    may_launch: bool = False,
) -> Outcome:
    """Train in the run folder ``out``, from its newest checkpoint if not ``new``; evaluate.

    Each of several processes calls this; only the first one writes and prints. Lightning
    starts the others with the command of this process, which works only where that command
    trains this run and no other (``may_launch``).

    Raises:
        MlcoreError: The configuration, the data or the loss does not allow it.
    """
    from mlcore.evaluation.evaluate import device_of, judge, with_baselines
    from mlcore.evaluation.results import to_document
    from mlcore.experiment import assemble
    from mlcore.reporting.figures.curves import save_curves
    from mlcore.training import fit
    from mlcore.training.memory_estimate import check_budget
    from mlcore.training.strategy import Processes

    processes = Processes.of(config.training)
    if processes.launcher == "lightning" and processes.count > 1 and not may_launch:
        raise ConfigError(
            f"--training.devices {processes.devices} and --training.num_nodes "
            f"{processes.num_nodes} only work with 'mlcore train'; here each run has one "
            "process"
        )
    first = is_first()
    with _progress() as progress:
        experiment = assemble(config, progress=progress)
    folder = RunFolder(out)
    if first:
        console.notes([*experiment.notes, *check_budget(experiment, out)])
        if new:
            folder = RunFolder.create(out, run_to_toml(experiment.config))
        environment = describe_environment(
            registry.plugins,
            device=str(device_of(config.training.accelerator)),
            fingerprint=experiment.dataset.fingerprint,
            notes=experiment.notes,
        )
        folder.write_json(folder.environment, environment)
        console.say(f"Run folder: {folder.path}")
    with _progress() as progress:
        ending = fit(experiment, folder, progress=progress)
    if ending != "finished":
        return Outcome(ending, [])
    models = {"trained": experiment.model}
    if config.evaluation.baselines:
        models = with_baselines(experiment.model, experiment.untrained)
    with _progress() as progress:
        results = judge(
            models, experiment.dataset, experiment.config, split=split, progress=progress
        )
    if first:
        folder.write_json(folder.evaluation, to_document(results))
        save_curves(results, folder.plots / "metres.png")
    return Outcome(ending, results)


def _progress() -> AbstractContextManager[Progress]:
    """Return the progress bars; of several processes only the first one draws them."""
    return console.progress() if is_first() else nullcontext(no_progress)
