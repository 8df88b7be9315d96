"""One run from assembly to evaluation, for ``train`` and ``compare``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from mlcore.cli import console
from mlcore.distributed import is_first, require_open_files
from mlcore.errors import DISK_FULL, ConfigError, DataError
from mlcore.options import RawOption, RunConfig, refuse_unused, run_to_toml
from mlcore.protocols import PlaceDataset, Progress, no_progress
from mlcore.registry.discovery import Registry
from mlcore.run_folder import Kind, RunFolder, describe_environment

if TYPE_CHECKING:
    from mlcore.evaluation.results import Evaluation
    from mlcore.experiment import Experiment
    from mlcore.retrieval.confidence import Confidence
    from mlcore.retrieval.whitening import Whitening
    from mlcore.training.strategy import Processes


STOPPED = {"interrupted": 130, "terminated": 143}
"""Exit codes by how a run was stopped."""


class Outcome(NamedTuple):
    """How a run ended.

    Attributes:
        ending: "finished", or how it was stopped; it can then be resumed.
        results: Of the evaluated models; empty if it was stopped.
        warnings: What went wrong in training without ending it.
    """

    ending: Literal["finished", "interrupted", "terminated"]
    results: list[Evaluation]
    warnings: tuple[str, ...] = ()


def train_and_evaluate(
    config: RunConfig,
    registry: Registry,
    out: Path,
    *,
    new: bool,
    split: Literal["test", "validation"] = "test",
    may_launch: bool = False,
    accepted: Sequence[Kind] = (),
    given: Sequence[RawOption] = (),
) -> Outcome:
    """Train in the run folder ``out``, from its newest checkpoint if not ``new``; evaluate.

    Each of several processes calls this; only the first one writes and prints. Lightning
    starts the others with the command of this process, which works only where that command
    trains this run and no other (``may_launch``).

    Args:
        config: Every option; for a resumed run, those to continue with.
        registry: Where its components come from.
        out: The run folder.
        new: Whether to create the folder.
        split: Split that is evaluated.
        may_launch: Whether Lightning may start further processes.
        accepted: Changes since the run started that the user accepts (``--accept-changes``).
        given: Options of the command line, to refuse those that turn out to do nothing.

    Raises:
        MlcoreError: The configuration, the data or the loss is invalid.
    """
    _require_references(config)
    folder = RunFolder(out)
    with ExitStack() as held:
        if is_first() and not new:
            held.enter_context(folder.locked())
            folder.checkpoints.mkdir(exist_ok=True)  # removed, with all that it held
        checked = _checked_dataset(config, split)
        # Before this, nothing imports torch, which takes seconds.
        processes = _possible_processes(config, may_launch=may_launch)
        experiment = _assembled(config, checked, given)
        if is_first():
            _announce(experiment, folder)
            toml = run_to_toml(experiment.config)
            if new:
                RunFolder.create(folder.path, toml)
                held.enter_context(folder.locked())
            _describe(experiment, registry, folder, accepted)
            if not new:
                folder.write_config(toml)
            console.say(f"Run folder: {folder.path}")
        ending, warnings = _train(experiment, folder, processes)
        if ending != "finished":
            return Outcome(ending, [], warnings)
        if not config.training.evaluate:
            _keep_model(experiment, folder)
            return Outcome(ending, [], warnings)
        return Outcome(ending, _evaluate(experiment, folder, split), warnings)


def _require_references(config: RunConfig) -> None:
    """Refuse to fit whitening on the references of a test that a run does not look at."""
    training = config.training
    of_test = config.evaluation.whitening == "references" and training.images != "references"
    if of_test and not training.evaluate:
        raise ConfigError(
            "--evaluation.whitening references needs the test images, which a run with "
            "--training.evaluate false does not use; choose train or none"
        )


class _Checked(NamedTuple):
    """A data set and the notes of its check."""

    dataset: PlaceDataset
    notes: tuple[str, ...]


def _checked_dataset(config: RunConfig, split: Literal["test", "validation"]) -> _Checked:
    """Open the data set, and refuse one that a run would stumble over later."""
    from mlcore.data.presence import require_images
    from mlcore.experiment import check_dataset, open_dataset, require_validation

    with _progress() as progress:
        dataset = open_dataset(config, progress)
    require_validation(config, dataset)
    require_images(
        dataset,
        split if config.training.evaluate else None,
        name=config.dataset.name,
        skip_unreadable=config.training.skip_unreadable,
    )
    return _Checked(dataset, check_dataset(config, dataset))


def _possible_processes(config: RunConfig, *, may_launch: bool) -> Processes:
    """Return the processes of the run, or refuse those that cannot be had here."""
    from mlcore.training.strategy import Processes

    processes = Processes.of(config.training)
    if not may_launch:
        _require_one_process(processes)
    processes.require_possible(config.training.accelerator)
    require_open_files(config.training.num_workers)
    return processes


def _assembled(config: RunConfig, checked: _Checked, given: Sequence[RawOption]) -> Experiment:
    """Assemble the run, and refuse options that turn out to do nothing in it."""
    from mlcore.experiment import assemble
    from mlcore.training.effects import unused_options

    with _progress() as progress:
        experiment = assemble(
            config, dataset=checked.dataset, data_notes=checked.notes, progress=progress
        )
    refuse_unused([unused_options(experiment)], given)
    return experiment


def _announce(experiment: Experiment, folder: RunFolder) -> None:
    """Print the notes on the run, or refuse one that does not fit into memory."""
    from mlcore.training import logger_notes
    from mlcore.training.memory_estimate import check_budget

    budget = check_budget(experiment, folder.path)
    loggers = logger_notes(experiment.config.training)
    console.notes([*experiment.notes, *budget, *loggers])


def _train(
    experiment: Experiment, folder: RunFolder, processes: Processes
) -> tuple[Literal["finished", "interrupted", "terminated"], tuple[str, ...]]:
    """Train; return how that ended, and the warnings."""
    from mlcore.training import fit

    warnings: list[str] = []

    def warn(message: str) -> None:
        warnings.append(message)
        console.say(f"warning: {message}")

    if processes.num_nodes > 1:
        console.say(f"Waiting for the processes of {processes.num_nodes} machines")
    try:
        with _progress() as progress:
            ending = fit(experiment, folder, progress=progress, warn=warn)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise DataError(
            f"{folder.path}: {error.strerror}; free some space, then continue with "
            f"'mlcore train --resume {folder.path}'"
        ) from error
    return ending, tuple(warnings)


def _evaluate(
    experiment: Experiment, folder: RunFolder, split: Literal["test", "validation"]
) -> list[Evaluation]:
    """Evaluate the trained network beside its baselines, and keep results and model."""
    from mlcore.evaluation.confidence import confidence_of
    from mlcore.evaluation.evaluate import embedder_of, evaluate_models, with_baselines
    from mlcore.evaluation.recording import record
    from mlcore.reporting.figures.curves import save_curves
    from mlcore.reporting.tables import skipped_notes

    models = {"trained": experiment.model}
    if experiment.config.evaluation.baselines:
        models = with_baselines(experiment.model, experiment.untrained)
    whitenings: dict[str, Whitening | None] = {}
    with _progress() as progress:
        results = evaluate_models(
            models,
            experiment.dataset,
            experiment.config,
            split=split,
            progress=progress,
            keep_whitening=whitenings.__setitem__,
        )
        whitening = whitenings["trained"]
        embedder = embedder_of(experiment.model, experiment.config, progress)
        confidence = confidence_of(
            embedder, experiment.dataset, whitening, experiment.config.evaluation
        )
    if is_first():
        console.notes(skipped_notes(results))
        record(folder, results, own=True)
        _save_model(experiment, folder, whitening, confidence)
        if confidence is not None:
            console.say(f"Confidence: {confidence}")
        save_curves(results, folder.plots / "metres.png")
    return results


def _keep_model(experiment: Experiment, folder: RunFolder) -> None:
    """Keep the model of a run that is not evaluated, with the whitening of its options."""
    from mlcore.evaluation.evaluate import embedder_of
    from mlcore.retrieval.references import whitening_of

    config, dataset = experiment.config, experiment.dataset
    with _progress() as progress:
        embedder = embedder_of(experiment.model, config, progress)
        whitening, skipped = whitening_of(
            embedder, dataset, dataset.train.references, config.evaluation, name="trained"
        )
    if is_first():
        console.notes([f"skipped for whitening, unreadable: {name}" for name in skipped])
        _save_model(experiment, folder, whitening, None)


def _save_model(
    experiment: Experiment,
    folder: RunFolder,
    whitening: Whitening | None,
    confidence: Confidence | None,
) -> None:
    from mlcore.deployment.model_folder import save_model

    keeps_best = experiment.config.training.checkpoint == "best"
    save_model(
        folder.model,
        experiment.model,
        experiment.config,
        whitening,
        confidence=confidence,
        run=folder.path.resolve().name,
        step=folder.newest_step(),
        best_step=folder.best_step() if keeps_best else None,
        data_fingerprint=experiment.dataset.fingerprint,
    )


def _require_one_process(processes: Processes) -> None:
    """Raise ConfigError for a run for which Lightning would start more processes."""
    if processes.launcher == "lightning" and processes.count > 1:
        raise ConfigError(
            f"--training.devices {processes.devices} and --training.num_nodes "
            f"{processes.num_nodes} only work with 'mlcore train'; here each run has one "
            "process"
        )


def _describe(
    experiment: Experiment, registry: Registry, folder: RunFolder, accepted: Sequence[Kind]
) -> None:
    """Write ``environment.json``, or record in its history that the run continues.

    Raises:
        ConfigError: Something has changed since the run started, and the user does not accept
            it.
    """
    from mlcore.evaluation.evaluate import device_of
    from mlcore.reporting.tables import weights_table
    from mlcore.training.provenance import began_with, provenance_of, went_on

    now = provenance_of(experiment, registry)
    environment: Mapping[str, Any]
    if folder.environment.exists():
        environment = went_on(
            folder.read_json(folder.environment),
            now,
            experiment.config,
            accepted=accepted,
            step=folder.newest_step(),
        )
    else:  # new, or killed before it was written
        if (weights := experiment.weights) is not None:
            console.say(f"Weights from {weights.path} (SHA-256 {weights.sha256[:12]}...)")
            console.say(console.as_text(weights_table(weights)).rstrip())
        environment = describe_environment(
            registry.plugins,
            device=str(device_of(experiment.config.training.accelerator)),
            fingerprint=experiment.dataset.fingerprint,
            notes=experiment.notes,
            weights=None if weights is None else weights.origin,
        )
        environment = {**environment, **began_with(now)}
    folder.write_json(folder.environment, environment)


def _progress() -> AbstractContextManager[Progress]:
    """Return the progress bars; of several processes only the first one draws them."""
    return console.progress() if is_first() else nullcontext(no_progress)
