"""From a command line and configuration files to a :class:`RunConfig`, and back to TOML.

In two passes: the names first, from all sources, then the options of the components they
choose and of no others. Order: default < TOML file (a later one wins) < command line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from mlcore.errors import ConfigError
from mlcore.factories import DatasetFactory, Factory
from mlcore.option_types import options_of, to_plain
from mlcore.options.components import check_known, choose
from mlcore.options.config import COMPONENTS, ENGINE, Chosen, RunConfig
from mlcore.options.engine import EvaluationOptions
from mlcore.options.raw import SECTIONS, Given, flag, read_argv, read_text, read_toml
from mlcore.options.sections import Section, sections_of, with_defaults
from mlcore.registry.discovery import Registry

_CHANGEABLE_TRAINING = ("accelerator", "num_workers", "skip_unreadable")
"""Options of ``[training]`` that embedding images takes too."""


def parse_run(
    argv: Sequence[str], registry: Registry, *, own_options: Sequence[str] = ()
) -> RunConfig:
    """Return the configuration that a command line describes.

    Args:
        argv: The words after the command, without the command's own flags.
        registry: The components to choose from.
        own_options: The command's own flags ("--out"), to be offered for a misspelt one.

    Raises:
        ConfigError: An option, key or name does not exist (the nearest is named), belongs
            to a component that is not chosen, has a value of the wrong type, or chooses
            components that do not fit together or whose libraries are not installed.
    """
    config = _resolve(_read(argv), registry, own_options)
    for section in COMPONENTS:
        chosen: Chosen[Factory] | None = getattr(config, section)
        if chosen is not None:
            chosen.factory.require_libraries()
    return config


def run_from_toml(path: Path, registry: Registry) -> RunConfig:
    """Return the configuration that a file alone describes, as a run folder keeps it.

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
    path: Path, argv: Sequence[str], registry: Registry, *, own_options: Sequence[str] = ()
) -> RunConfig:
    """Return a trained run's configuration with another data set or way of judging it.

    ``--dataset``, its options, those of ``[evaluation]`` (also by their bare names, as in
    ``--whitening none``) and the few of ``[training]`` that change no number of the
    training may be given. Another data set takes none of the file's options.

    Args:
        path: The run's ``config.toml``.
        argv: The words after the command, without the command's own.
        registry: The components to choose from.
        own_options: The command's own flags, to be offered for a misspelt one.

    Raises:
        ConfigError: As for :func:`parse_run`, or an option would need another training.
    """
    files, words = read_argv(argv)
    if files:
        raise ConfigError("--config makes no sense here: the run has a configuration")
    words = [_in_full(item) for item in words]
    for item in words:
        if item.section in SECTIONS and not _may_change(item):
            raise ConfigError(
                f"{item.label} cannot be given for a run that is trained; what can: "
                f"--dataset, its options, --evaluation.* and "
                f"{', '.join(f'--training.{name}' for name in _CHANGEABLE_TRAINING)}"
            )
    kept = read_toml(path)
    if any(item.section == "dataset" and item.option == "name" for item in words):
        kept = [item for item in kept if item.section != "dataset"]
    config = _resolve([*kept, *words], registry, own_options)
    for needed in (config.dataset, config.model):  # a trained network needs no loss
        needed.factory.require_libraries()
    return config


def _in_full(item: Given) -> Given:
    is_bare = not item.section and item.option in (f.name for f in fields(EvaluationOptions))
    return replace(item, section="evaluation") if is_bare else item


def _may_change(item: Given) -> bool:
    if item.section == "training":
        return item.option in _CHANGEABLE_TRAINING
    return item.section in ("dataset", "evaluation")


def run_to_toml(config: RunConfig) -> str:
    """Return the whole configuration as TOML that :func:`run_from_toml` reads back."""
    import tomli_w

    document: dict[str, Any] = {"seed": config.seed}
    for section in COMPONENTS:
        chosen: Chosen[Factory] | None = getattr(config, section)
        if chosen is not None:
            document[section] = {"name": chosen.name, **_plain(chosen.options)}
    for section in ENGINE:
        document[section] = _plain(getattr(config, section))
    return tomli_w.dumps(document)


def run_help(argv: Sequence[str], registry: Registry) -> str:
    """Return the help of the options that a command line has: of its chosen components.

    Raises:
        ConfigError: A component's name does not exist.
    """
    from mlcore.options.typed import build_parser

    factories = choose(_read(argv), registry)
    text: str = build_parser(sections_of(factories).values()).format_help()
    return text


def parse_own(
    argv: Sequence[str], config: type[Any], title: str
) -> tuple[Any, tuple[str, ...], list[str]]:
    """Return a dataclass of options that no run has, their flags, and the words left over.

    Args:
        argv: Words of a command line; ``--NAME VALUE`` is the option NAME of the dataclass.
        config: Every field has a default.
        title: What the options are of, for messages.

    Raises:
        ConfigError: A value is of the wrong type, or the dataclass refuses it.
    """
    from mlcore.options.typed import parse

    section = _own_section(config, title)
    flags = tuple(flag(name) for name in section.options)
    own: list[str] = []
    left: list[str] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        name, has_value, _ = word.partition("=")
        taken = own if name in flags else left
        taken.append(word)
        if not has_value and name.startswith("--") and words and not words[0].startswith("--"):
            taken.append(words.pop(0))
    values = parse(read_argv(own)[1], {"": section})[""]
    return _construct(config, values, title), flags, left


def own_help(config: type[Any], title: str) -> str:
    """Return the help of the options that :func:`parse_own` reads."""
    from mlcore.options.typed import build_parser

    section = _own_section(config, title)
    text: str = build_parser([section]).format_help()
    return text


def _own_section(config: type[Any], title: str) -> Section:
    options = {option.name: option for option in options_of(config)}
    return Section(name="", title=title, options=options)


def _read(argv: Sequence[str]) -> list[Given]:
    """Return everything given, in rising precedence."""
    files, from_argv = read_argv(argv)
    return [given for file in files for given in read_toml(file)] + from_argv


def _resolve(
    given: Sequence[Given], registry: Registry, own_options: Sequence[str] = ()
) -> RunConfig:
    from mlcore.options.typed import parse  # jsonargparse costs a tenth of a second

    factories = choose(given, registry)
    sections = sections_of(factories)
    options = [
        item for item in given if item.section not in COMPONENTS or item.option != "name"
    ]
    for item in options:
        check_known(item, sections, registry, own_options)
    sections = with_defaults(sections, [item for item in options if item.file is not None])
    values = parse([item for item in options if item.file is None], sections)
    chosen = {
        section: Chosen(
            name=registry.qualified_name(factory),
            factory=factory,
            options=_construct(factory.config, values[section], f"{section} {factory.name!r}"),
        )
        for section, factory in factories.items()
    }
    engine = {
        section: _construct(config, values[section], section)
        for section, config in ENGINE.items()
    }
    engine["sampling"] = _with_radii(engine["sampling"], factories["dataset"])
    parts: dict[str, Any] = {"influence": None, "miner": None, **chosen, **engine}
    return RunConfig(seed=values[""]["seed"], **parts)


def _with_radii(sampling: Any, dataset: Factory) -> Any:
    """Return the sampling options with the data set's radii where none are given."""
    assert isinstance(dataset, DatasetFactory)
    radii = {field.name: getattr(dataset.radii, field.name) for field in fields(dataset.radii)}
    unset = {name: radius for name, radius in radii.items() if getattr(sampling, name) is None}
    return replace(sampling, **unset)


def _construct(config: type[Any], values: Mapping[str, Any], title: str) -> Any:
    """Return the dataclass of a section; what its own checks refuse is the user's error."""
    defaults = config()
    bases = {
        one.name: values.get(one.metadata.get("relative_to", "")) for one in fields(config)
    }
    anchored = {
        name: value
        if value == getattr(defaults, name) or _lies_in(bases.get(name), value)
        else _anchored(value)
        for name, value in values.items()
    }
    try:
        return config(**anchored)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{title}: {error}") from error


def _lies_in(base: Any, value: Any) -> bool:
    """Return whether a path is found below another option, whose place it then shares."""
    return isinstance(base, Path) and isinstance(value, Path) and (base / value).exists()


def _anchored(value: Any) -> Any:
    """Return a path that a user gave as absolute, so that it means the same elsewhere."""
    if isinstance(value, Path):
        return value.expanduser().absolute()
    if isinstance(value, tuple):
        return tuple(_anchored(item) for item in value)
    return value


def _plain(options: Any) -> dict[str, Any]:
    return {field.name: to_plain(getattr(options, field.name)) for field in fields(options)}
