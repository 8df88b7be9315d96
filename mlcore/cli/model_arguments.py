"""Arguments and helpers of commands on models, which are in a run or in a map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from mlcore.cli import console
from mlcore.cli.run_arguments import TrainedRun, open_run
from mlcore.errors import ConfigError, DataError
from mlcore.options import Command, RawOption, unknown_option
from mlcore.options.engine import EvaluationOptions
from mlcore.options.raw import SECTIONS, read_toml
from mlcore.registry.discovery import Registry
from mlcore.run_folder import RunFolder

if TYPE_CHECKING:
    from mlcore.deployment.model_folder import DeployedModel
    from mlcore.retrieval.whitening import Whitening

OF_EMBEDDING = (
    "training.accelerator",
    "training.num_workers",
    "training.skip_unreadable",
    "evaluation.batch_size",
    "batch_size",
)
"""Options of a run that apply to embedding with a finished model."""

OF_DATA = ("dataset", "evaluation.spacing_m", "spacing_m")
"""Options that apply as well if images of a data set are embedded."""


def open_model(
    path: Path,
    changes: Sequence[RawOption],
    block: Sequence[str],
    command: Command,
    *,
    with_dataset: bool = False,
) -> DeployedModel:
    """Open the model of a run or of a map.

    A run of an earlier version has no model folder: it is written first, which needs the run's
    data set.

    Args:
        path: The run, the map, or a copy of either's model folder.
        changes: Options of the command line.
        block: Plugins not to load.
        command: The command, to be named in messages.
        with_dataset: Whether the run's own data set is wanted, unless ``changes`` choose one.

    Raises:
        DataError: There is no model at ``path``, or it is damaged.
        ConfigError: An option does not exist, or does not apply to a finished model.
    """
    from mlcore.deployment.map_folder import is_map
    from mlcore.deployment.model_folder import find_model, load_model

    allowed = (*OF_EMBEDDING, *OF_DATA) if with_dataset else OF_EMBEDDING
    for item in changes:
        if item.section not in allowed and item.key not in allowed:
            _require_option(item, command, allowed)
            raise ConfigError(
                f"{item.label} does not apply here: the network and its whitening are "
                f"finished; options that do: {', '.join(f'--{name}' for name in allowed)}"
            )
    folder = find_model(path)
    if folder is None and is_map(path):
        raise DataError(f"map {path} has no model: {path / 'model'} is missing")
    if folder is None:
        require_run_or_map(path)
        trained = open_run(path, (), block, command)
        console.say(f"note: {path} has no model folder yet; it is written now")
        folder = save_model_of(trained, _fitted_whitening(trained))
    kept: list[RawOption] = []
    if with_dataset and not any(item.section == "dataset" and item.chooses for item in changes):
        config = RunFolder.open(path).config
        kept = [item for item in read_toml(config) if item.section == "dataset"]
    model = load_model(
        folder,
        Registry.discover(block=block),
        options=kept,
        changes=changes,
        command=command,
    )
    trained_until = RunFolder(path).newest_step()
    if trained_until > model.info.step:
        console.say(
            f"note: {folder} is the model after step {model.info.step}, as it was evaluated; "
            f"training has reached step {trained_until} since"
        )
    return model


def require_run_or_map(path: Path) -> None:
    """Raise DataError unless there is a run or a map at ``path``."""
    from mlcore.deployment.map_folder import is_map

    if not path.exists():
        raise DataError(f"no run folder at {path}, nor a map")
    if path.is_dir() and not RunFolder(path).config.is_file() and not is_map(path):
        raise DataError(
            f"{path} is not a run folder, which has a config.toml, nor a map of 'mlcore "
            "index', which has a map.json"
        )


def _require_option(item: RawOption, command: Command, allowed: Sequence[str]) -> None:
    """Raise UnknownNameError for an option that no command has."""
    known = [field.name for field in fields(EvaluationOptions)]
    bare = not item.section and item.option not in known
    if bare or (item.section and item.section not in SECTIONS):
        flags = [*command.flags, *(f"--{name}" for name in (*allowed, *known))]
        raise unknown_option(f"--{item.key}", flags, command.name)


def lacks_model(trained: TrainedRun) -> bool:
    """Return whether an evaluation of the run, as it was opened, should leave its model."""
    from mlcore.evaluation.confidence import validation_of

    same = (
        trained.config.evaluation == trained.trained_as.evaluation
        and trained.config.dataset == trained.trained_as.dataset
    )
    has = [(trained.folder.model / name).exists() for name in ("model.json", "confidence.json")]
    is_measurable = validation_of(trained.dataset) is not None
    return same and not (has[0] and (has[1] or not is_measurable))


def save_model_of(trained: TrainedRun, whitening: Whitening | None) -> Path:
    """Write the model folder of a run and return it."""
    from mlcore.deployment.model_folder import save_model
    from mlcore.evaluation.confidence import confidence_of
    from mlcore.evaluation.evaluate import embedder_of

    keeps_best = trained.trained_as.training.checkpoint == "best"
    with console.progress() as progress:
        embedder = embedder_of(trained.model, trained.config, progress)
        confidence = confidence_of(
            embedder, trained.dataset, whitening, trained.config.evaluation
        )
    save_model(
        trained.folder.model,
        trained.model,
        trained.trained_as,
        whitening,
        confidence=confidence,
        run=trained.folder.path.resolve().name,
        step=trained.folder.newest_step(),
        best_step=trained.folder.best_step() if keeps_best else None,
        data_fingerprint=trained.dataset.fingerprint,
    )
    console.say(f"Written: {trained.folder.model}")
    return trained.folder.model


def _fitted_whitening(trained: TrainedRun) -> Whitening | None:
    """Fit the whitening of a run as its evaluation does."""
    from mlcore.evaluation.evaluate import embedder_of
    from mlcore.retrieval.references import embed_references

    with console.progress() as progress:
        return embed_references(
            embedder_of(trained.model, trained.config, progress),
            trained.dataset,
            trained.dataset.test.references,
            trained.config.evaluation,
        ).whitening
