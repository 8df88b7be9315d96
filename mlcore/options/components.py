"""First pass: which components are chosen, and whether they and the options fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from mlcore.errors import ConfigError, UnknownNameError, did_you_mean
from mlcore.factories import Factory, LossFactory, MinerFactory
from mlcore.options.config import COMPONENTS
from mlcore.options.networks import part_defaults
from mlcore.options.raw import Given, flag
from mlcore.options.sections import Section
from mlcore.protocols import Pairs, Triplets
from mlcore.registry.discovery import Registry

DEFAULT_NAMES = {"dataset": "streets", "model": "small-cnn", "loss": "proposed"}


def choose(given: Sequence[Given], registry: Registry) -> dict[str, Factory]:
    """Return the chosen factory of each section; ``given`` is in rising precedence.

    Raises:
        ConfigError: A name does not exist or is ambiguous, a section does not apply to
            the loss, or the miner does not suit it.
    """
    names = {item.section: item for item in given if item.option == "name" and item.section}
    loss = _resolve("loss", names.get("loss"), DEFAULT_NAMES["loss"], registry)
    assert isinstance(loss, LossFactory)
    defaults = {**DEFAULT_NAMES, **_defaults_by_loss(loss), **part_defaults(given, registry)}
    _check_applies(given, loss, defaults)
    chosen = {
        section: _resolve(section, names.get(section), defaults[section], registry)
        for section in COMPONENTS
        if section in defaults
    }
    if "miner" in chosen:
        _check_miner(loss, chosen["miner"])
    return chosen


def check_known(
    item: Given,
    sections: Mapping[str, Section],
    registry: Registry,
    own_options: Sequence[str] = (),
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
        choices = " or ".join(f"--{item.section} {name}" for name in owners[:3])
        raise ConfigError(
            f"{item.label} is no option of {section.title}, which is chosen; "
            f"choose its component with {choices}"
        )
    if item.file is not None:
        assert section is not None, "the file's reader knows the sections"
        known: list[str] = [*section.options, *(["name"] if item.section in COMPONENTS else [])]
        raise UnknownNameError(f"key in [{item.section}] of {item.file}", item.option, known)
    flags = [flag(s.key(option)) for s in sections.values() for option in s.options]
    flags += [f"--{name}" for name in COMPONENTS]
    raise UnknownNameError("option", f"--{item.key}", ["--config", *flags, *own_options])


def _resolve(section: str, item: Given | None, default: str, registry: Registry) -> Factory:
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


def _check_applies(given: Sequence[Given], loss: LossFactory, defaults: Any) -> None:
    reasons = {
        "influence": "uses no influence function",
        "miner": "mines inside itself"
        if loss.mining == "internal"
        else "takes no mined tuples",
    }
    for item in given:
        if item.section in reasons and item.section not in defaults:
            raise ConfigError(
                f"{item.label} makes no sense: loss {loss.name!r} {reasons[item.section]}; "
                "leave it out or choose another loss"
            )


def _check_miner(loss: LossFactory, miner: Factory) -> None:
    assert isinstance(miner, MinerFactory)
    if loss.accepts is Triplets and miner.produces is Pairs:
        raise ConfigError(
            f"miner {miner.name!r} produces pairs, but loss {loss.name!r} takes triplets; "
            "use --miner geometric-triplets"
        )


def _owners(item: Given, registry: Registry) -> list[str]:
    """Return the names of the components that have an option of that name."""
    kind = COMPONENTS.get(item.section)
    if kind is None:
        return []
    return [
        registry.qualified_name(factory)
        for _, factory in registry.factories(kind)
        if item.option in (field.name for field in fields(factory.config))
    ]
