"""Resolve the chosen components, and check that they and the given options fit together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

from mlcore.errors import ConfigError, UnknownNameError, did_you_mean
from mlcore.factories import Factory, LossFactory, MinerFactory
from mlcore.options.config import COMPONENTS
from mlcore.options.networks import part_defaults
from mlcore.options.raw import RawOption
from mlcore.options.sections import Section
from mlcore.options.several import DATASET, names_of, section_of
from mlcore.options.suggestions import nearest_flags, unknown_option
from mlcore.protocols import Pairs, Triplets
from mlcore.registry.discovery import Registry


class Command(NamedTuple):
    """The command whose options are read, for messages.

    Attributes:
        name: As typed: "mlcore train".
        flags: Its own flags, with their dashes.
        evaluation: The options of ``[evaluation]`` that it uses; None: all of them.
    """

    name: str = "mlcore train"
    flags: Sequence[str] = ()
    evaluation: Sequence[str] | None = None


TRAIN = Command()

DEFAULT_NAMES = {"dataset": "streets", "model": "small-cnn", "loss": "proposed"}


def choose(
    given: Sequence[RawOption], registry: Registry, absent: Mapping[str, Factory] | None = None
) -> dict[str, Factory]:
    """Return the chosen factory of each section; ``given`` is in rising precedence.

    Args:
        given: All options.
        registry: The components to choose from.
        absent: Factories that stand for the data set or the loss, by section: none is looked
            up in the registry.

    Raises:
        ConfigError: A name does not exist or is ambiguous, a section does not apply to the
            loss, or the miner does not fit it.
    """
    absent = absent or {}
    names = {item.section: item for item in given if item.chooses}
    loss = absent.get("loss") or _resolve(
        "loss", names.get("loss"), DEFAULT_NAMES["loss"], registry
    )
    assert isinstance(loss, LossFactory)
    defaults = {**DEFAULT_NAMES, **_defaults_by_loss(loss), **part_defaults(given, registry)}
    for item in given:
        _require_applicable(item, loss, defaults)
    chosen: dict[str, Factory] = {}
    for section in COMPONENTS:
        if section in absent:
            chosen[section] = absent[section]
        elif section in defaults:
            chosen |= _resolve_all(section, names.get(section), defaults[section], registry)
    if "miner" in chosen:
        _check_miner(loss, chosen["miner"])
    return chosen


def applicable(
    given: Sequence[RawOption], registry: Registry
) -> tuple[list[RawOption], list[RawOption]]:
    """Split options into those that the chosen loss, influence and miner have, and others.

    For a comparison, whose options hold for the losses that have them. A name that does not
    exist is kept, so that reading the options reports it.
    """
    names = {item.section: item for item in given if item.chooses}
    loss = _resolve("loss", names.get("loss"), DEFAULT_NAMES["loss"], registry)
    assert isinstance(loss, LossFactory)
    defaults = {"loss": loss.name, **_defaults_by_loss(loss)}
    kept: list[RawOption] = []
    left_out: list[RawOption] = []
    for item in given:
        has = True
        if item.section in ("influence", "miner") and item.section not in defaults:
            has = False
        elif item.section in defaults and not item.chooses:
            name = names.get(item.section)
            factory = _resolve(item.section, name, defaults[item.section], registry)
            has = item.option in {field.name for field in fields(factory.config)}
        (kept if has else left_out).append(item)
    return kept, left_out


def require_known(
    item: RawOption,
    sections: Mapping[str, Section],
    registry: Registry,
    command: Command,
) -> None:
    """Check that a given option exists.

    Raises:
        ConfigError: It belongs to a component that is not chosen.
        UnknownNameError: It belongs to none.
    """
    section = sections.get(item.section)
    if section is not None and item.option in section.options:
        return
    owners = _owners(item, registry)
    if section is not None and owners:
        kind = item.section.partition(".")[0]
        choices = ", ".join(f"--{kind} {name}" for name in owners[:3])
        more = f" and {len(owners) - 3} more" if len(owners) > 3 else ""
        raise ConfigError(
            f"{item.label} is not an option of {section.title}, which is chosen; it is one of "
            f"{choices}{more}"
        )
    if item.file is not None:
        assert section is not None, "the file's reader knows the sections"
        known: list[str] = [*section.options, *(["name"] if item.section in COMPONENTS else [])]
        raise UnknownNameError(
            f"key in [{item.section}] of {item.file}",
            item.option,
            known,
            nearest=_nearest_keys(item, sections),
        )
    if not item.section and item.option in sections:
        example = next(iter(sections[item.option].options))
        raise ConfigError(
            f"{item.label} needs the name of an option, such as --{item.option}.{example}"
        )
    flags = [s.flag(option) for s in sections.values() for option in s.options]
    flags += ["--config", *(f"--{name}" for name in COMPONENTS), *command.flags]
    raise unknown_option(f"--{item.key}", flags, command.name)


def _nearest_keys(item: RawOption, sections: Mapping[str, Section]) -> list[str] | None:
    """Return what a key of a file may have meant, such as "loggers of [training]"."""
    flags = [s.flag(option) for s in sections.values() for option in s.options]
    found = [flag.removeprefix("--") for flag in nearest_flags(f"--{item.key}", flags)]
    parted = [key.rpartition(".") for key in found]
    keys = [
        option if section == item.section else f"{option} of [{section}]"
        for section, _, option in parted
    ]
    return keys or None


def _resolve_all(
    section: str, item: RawOption | None, default: str, registry: Registry
) -> dict[str, Factory]:
    """Return the factory of a section, or those of several data sets by numbered sections."""
    text = None if item is None else item.value
    if section != DATASET or not isinstance(text, str) or "," not in text:
        return {section: _resolve(section, item, default, registry)}
    assert item is not None
    return {
        section_of(number): _resolve(section, replace(item, value=name), default, registry)
        for number, name in enumerate(names_of(text), start=1)
    }


def _resolve(section: str, item: RawOption | None, default: str, registry: Registry) -> Factory:
    kind: Any = COMPONENTS[section]
    name = default if item is None else item.value
    if not name or not isinstance(name, str):
        known = did_you_mean("", [factory.name for _, factory in registry.factories(kind)])
        label = f"--{section}" if item is None else item.label
        raise ConfigError(f"{label} needs the name of a {section}{known}")
    try:
        factory: Factory = registry.resolve(kind, name)
    except UnknownNameError as error:
        if item is None or item.file is None:
            raise
        raise ConfigError(f"{item.label}: {error}") from error
    return factory


def _defaults_by_loss(loss: LossFactory) -> dict[str, str]:
    defaults = {}
    if loss.uses_influence:
        defaults["influence"] = "sigmoid"
    if loss.mining == "external":
        form = "triplets" if loss.accepts is Triplets else "pairs"
        defaults["miner"] = f"geometric-{form}"
    return defaults


def _require_applicable(
    item: RawOption, loss: LossFactory, defaults: Mapping[str, str]
) -> None:
    if item.section not in ("influence", "miner") or item.section in defaults:
        return
    if item.section == "influence":
        reason = "does not use an influence function"
    elif loss.mining == "internal":
        reason = "mines its own pairs"
    else:
        reason = "does not take mined pairs or triplets"
    raise ConfigError(
        f"{item.label} does not apply: loss {loss.name!r} {reason}; "
        "leave it out or choose another loss"
    )


def _check_miner(loss: LossFactory, miner: Factory) -> None:
    assert isinstance(miner, MinerFactory)
    if loss.accepts is Triplets and miner.produces is Pairs:
        raise ConfigError(
            f"miner {miner.name!r} produces pairs, but loss {loss.name!r} takes triplets; "
            "use --miner geometric-triplets"
        )


def _owners(item: RawOption, registry: Registry) -> list[str]:
    """Return the names of the components that have an option of that name."""
    kind = COMPONENTS.get(item.section.partition(".")[0])
    if kind is None:
        return []
    return [
        registry.qualified_name(factory)
        for _, factory in registry.factories(kind)
        if item.option in (field.name for field in fields(factory.config))
    ]
