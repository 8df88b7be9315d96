"""From a command line and configuration files to a :class:`RunConfig`, and back to TOML.

In two passes: the names first, from all sources, then the options of the components they
choose and of no others. Order: default < TOML file (a later one wins) < command line.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NoReturn

from mlcore.errors import ConfigError
from mlcore.factories import BuildContext, DatasetFactory, Factory, LossFactory
from mlcore.options.components import DEFAULT_NAMES, TRAIN, Command, choose, require_known
from mlcore.options.config import COMPONENTS, ENGINE, Chosen, RunConfig
from mlcore.options.effects import require_effect_in_evaluation
from mlcore.options.engine import EvaluationOptions
from mlcore.options.loggers import require_loggers
from mlcore.options.networks import (
    parts_of_pair,
    recommended_training,
    renamed,
    require_taken,
    require_weights,
    settled_weights,
)
from mlcore.options.raw import (
    CONFIG,
    SECTIONS,
    SEED,
    RawOption,
    read_argv,
    read_text,
    read_toml,
    with_files,
)
from mlcore.options.sections import (
    Section,
    construct,
    format_help,
    sections_of,
    to_document,
    values_of,
)
from mlcore.options.several import (
    DATASET,
    SeveralOptions,
    combined,
    kept_options,
    names_of,
    with_numbers,
)
from mlcore.registry.discovery import Registry


@dataclass(frozen=True, kw_only=True)
class _NoOptions:
    """Options of a component that is not there."""


def _refuse(_options: _NoOptions, _context: BuildContext) -> NoReturn:
    raise AssertionError("a finished model was opened without its data set and its loss")


_ABSENT: Mapping[str, Factory] = {
    "dataset": DatasetFactory(
        name="none", summary="no data set", config=_NoOptions, build=_refuse
    ),
    "loss": LossFactory(name="none", summary="no loss", config=_NoOptions, build=_refuse),
}
"""What stands for components that a finished model does without; their plugins may be gone."""

_CHANGEABLE_TRAINING = ("accelerator", "num_workers", "skip_unreadable")
"""Options of ``[training]`` that also apply when images are embedded."""

_COMPONENTS_HELP = f"""components:
  --config FILE     TOML file with options; the command line overrides it
  --loss NAME       loss to minimize (default: {DEFAULT_NAMES["loss"]}; 'mlcore list losses')
  --influence NAME  influence function of distance, for losses that use one
                    (default: sigmoid; 'mlcore list influence-functions')
  --miner NAME      miner, for losses that take pairs or triplets ('mlcore list miners')
  --dataset NAME    data set (default: {DEFAULT_NAMES["dataset"]}; 'mlcore list datasets');
                    A,B takes several, --dataset.2.OPTION is an option of the second
  --model NAME      whole network, or a named pair of backbone and pooling
                    (default: {DEFAULT_NAMES["model"]}; 'mlcore list models')
  --backbone NAME   backbone of a network of chosen parts ('mlcore list backbones')
  --pooling NAME    its pooling ('mlcore list poolings')

The options below are those of the components chosen here; add --loss NAME to see the options
of another loss.
"""


def parse_run(
    argv: Sequence[str], registry: Registry, *, command: Command = TRAIN
) -> RunConfig:
    """Return the configuration that a command line describes.

    Args:
        argv: The words after the command, without the command's own flags.
        registry: The components to choose from.
        command: The command, to be named in messages; its flags are suggested too.

    Raises:
        ConfigError: An option, key or name does not exist (the nearest is named), belongs to a
            component that is not chosen, has a value of the wrong type or outside its range, or
            chooses components that do not fit together or whose libraries are not installed.
    """
    return resolve_run(read_argv(argv), registry, command=command)


def resolve_run(
    given: Sequence[RawOption], registry: Registry, *, command: Command = TRAIN
) -> RunConfig:
    """Return the configuration that options describe; ``--config`` files are read.

    Raises:
        ConfigError: As for :func:`parse_run`.
    """
    config = _resolve(with_files(given), registry, command)
    for section in COMPONENTS:
        chosen: Chosen[Factory] | None = getattr(config, section)
        if chosen is not None:
            chosen.factory.require_libraries()
    require_weights(config.model, config.backbone)
    require_loggers(config.training.loggers)
    return config


def run_from_toml(path: Path, registry: Registry) -> RunConfig:
    """Return the configuration that a single file describes, such as that of a run folder.

    Raises:
        ConfigError: As for :func:`parse_run`.
    """
    return _resolve(read_toml(path), registry)


def run_from_text(text: str, file: Path, registry: Registry) -> RunConfig:
    """Return the configuration that the content of ``file``, yet to be written, describes.

    Raises:
        ConfigError: As for :func:`parse_run`.
    """
    return _resolve(read_text(text, file), registry)


def reopen_run(
    path: Path,
    given: Sequence[RawOption],
    registry: Registry,
    *,
    command: Command = TRAIN,
) -> RunConfig:
    """Return a trained run's configuration with another data set or way of evaluating it.

    ``--dataset``, its options, those of ``[evaluation]`` (also by their bare names, as in
    ``--whitening none``) and the few of ``[training]`` that do not affect training may be
    given. A data set of the run keeps its options, another takes none of the file's.

    Args:
        path: The run's ``config.toml``.
        given: Options of the command line.
        registry: The components to choose from.
        command: The command, to be named in messages.

    Raises:
        ConfigError: As for :func:`parse_run`, or an option would need another training or
            does nothing in this command.
    """
    return reopen(read_toml(path), given, registry, command=command)


def reopen(
    kept: Sequence[RawOption],
    given: Sequence[RawOption],
    registry: Registry,
    *,
    command: Command = TRAIN,
    without: Collection[str] = (),
) -> RunConfig:
    """Do as :func:`reopen_run` with options that were kept elsewhere than in a TOML file.

    Args:
        kept: Options of the run.
        given: Options of the command line.
        registry: The components to choose from.
        command: The command, to be named in messages.
        without: "dataset", "loss" or both: components that are not needed, whose plugins need
            not be installed. The configuration has placeholders for them.

    Raises:
        ConfigError: As for :func:`reopen_run`.
    """
    changes = [_with_section(item) for item in given]
    for item in changes:
        if item.key == CONFIG:
            raise ConfigError("--config does not apply: the run has its own config.toml")
        if (item.section in SECTIONS or item.key == SEED) and not _may_change(item):
            raise ConfigError(
                f"{item.label} cannot be changed after training; options that can: "
                f"--dataset, --dataset.*, --evaluation.* and "
                f"{', '.join(f'--training.{name}' for name in _CHANGEABLE_TRAINING)}"
            )
        _require_used(item, command)
    chosen = [item for item in changes if item.section == DATASET and item.chooses]
    if chosen and isinstance(chosen[-1].value, str):
        names = [_full_name(name, registry) for name in names_of(chosen[-1].value)]
        of_datasets = kept_options(kept, names)
        kept = [*(item for item in kept if item.section != DATASET), *of_datasets]
        changes = [item for item in changes if item not in chosen]
    absent = {section: _ABSENT[section] for section in without}
    config = _resolve([*kept, *changes], registry, command, absent)
    require_effect_in_evaluation(config, changes)
    # A trained network needs no loss.
    for needed in (config.dataset, config.model, config.backbone, config.pooling):
        if needed is not None:
            needed.factory.require_libraries()
    return config


def _full_name(name: str, registry: Registry) -> str:
    """Return the name that a run's file has for a data set; other words stay as they are."""
    try:
        return registry.qualified_name(registry.resolve(DatasetFactory, name))
    except ConfigError:  # said again, better, where the name is looked up
        return name


def run_to_toml(config: RunConfig) -> str:
    """Return the whole configuration as TOML that :func:`run_from_toml` reads back."""
    import tomli_w

    document: dict[str, Any] = {"seed": config.seed}
    for section in COMPONENTS:
        chosen: Chosen[Factory] | None = getattr(config, section)
        is_of_pair = section in ("backbone", "pooling") and config.model.factory.backbone
        if chosen is not None and not is_of_pair:
            document[section] = _as_document(chosen)
    for section in ENGINE:
        document[section] = to_document(getattr(config, section))
    return tomli_w.dumps(document)


def _as_document(chosen: Chosen[Factory]) -> dict[str, Any] | list[dict[str, Any]]:
    if isinstance(chosen.options, SeveralOptions):
        return [{"name": p.name, **to_document(p.options)} for p in chosen.options.parts]
    return {"name": chosen.name, **to_document(chosen.options)}


def run_help(given: Sequence[RawOption], registry: Registry) -> str:
    """Return the help of the options that a command line has: of its chosen components.

    Raises:
        ConfigError: A component's name does not exist.
    """
    sections = run_sections(given, registry)
    return f"{_COMPONENTS_HELP}\n{format_help(sections)}"


def run_sections(given: Sequence[RawOption], registry: Registry) -> list[Section]:
    """Return the sections of the components that a command line chooses, and the engine's.

    Raises:
        ConfigError: A component's name does not exist.
    """
    return list(sections_of(choose(with_files(given), registry)).values())


def parse_options(
    given: Sequence[RawOption], config: type[Any], title: str
) -> tuple[Any, Section, list[RawOption]]:
    """Return a dataclass of options that no run has, its section, and the other options.

    Args:
        given: Options of the command line; ``--NAME VALUE`` sets the field NAME.
        config: Every field has a default.
        title: What the options are of, for messages.

    Raises:
        ConfigError: A value is of the wrong type, or the dataclass refuses it.
    """
    section = Section.of(config, title=title)
    own = [item for item in given if not item.section and item.option in section.options]
    values = values_of({"": section}, own)[""]
    return construct(config, values, title), section, [i for i in given if i not in own]


def _with_section(item: RawOption) -> RawOption:
    is_bare = not item.section and item.option in (f.name for f in fields(EvaluationOptions))
    return replace(item, section="evaluation") if is_bare else item


def _may_change(item: RawOption) -> bool:
    if item.section == "training":
        return item.option in _CHANGEABLE_TRAINING
    return item.section in ("dataset", "evaluation")


def _require_used(item: RawOption, command: Command) -> None:
    """Raise ConfigError for an option of evaluations that the command does not use."""
    used = command.evaluation
    known = [field.name for field in fields(EvaluationOptions)]
    if item.section != "evaluation" or used is None or item.option not in known:
        return
    if item.option not in used:
        raise ConfigError(
            f"{item.label} has no effect in '{command.name}', which uses "
            f"{', '.join(f'--evaluation.{name}' for name in used)}"
        )


def _resolve(
    given: Sequence[RawOption],
    registry: Registry,
    command: Command = TRAIN,
    absent: Mapping[str, Factory] | None = None,
) -> RunConfig:
    absent = absent or {}
    factories = choose(given, registry, absent)
    given = renamed(given, factories["model"])
    sections = sections_of(factories)
    options = with_numbers([item for item in given if not item.chooses], factories)
    for item in options:
        require_known(item, sections, registry, command)
    values = values_of(sections, options)
    chosen: dict[str, Any] = {
        section: Chosen(
            name=factory.name if section in absent else registry.qualified_name(factory),
            factory=factory,
            options=construct(factory.config, values[section], f"{section} {factory.name!r}"),
        )
        for section, factory in factories.items()
    }
    chosen = combined(chosen)
    chosen |= parts_of_pair(chosen["model"], registry)
    require_taken(options, chosen, registry)
    if "backbone" in chosen:
        chosen["model"] = settled_weights(chosen["model"], chosen["backbone"], options)
        recommended = recommended_training(chosen["model"], chosen["backbone"])
        explicit = {item.option for item in options if item.section == "training"}
        values["training"] |= {k: v for k, v in recommended.items() if k not in explicit}
    engine = {
        section: construct(config, values[section], section)
        for section, config in ENGINE.items()
    }
    engine["sampling"] = _with_radii(engine["sampling"], chosen[DATASET].factory)
    parts: dict[str, Any] = {"influence": None, "miner": None, **chosen, **engine}
    return RunConfig(seed=values[""]["seed"], **parts)


def _with_radii(sampling: Any, dataset: Factory) -> Any:
    """Return the sampling options with the data set's radii where none are given."""
    assert isinstance(dataset, DatasetFactory)
    radii = {field.name: getattr(dataset.radii, field.name) for field in fields(dataset.radii)}
    unset = {name: radius for name, radius in radii.items() if getattr(sampling, name) is None}
    return replace(sampling, **unset)
