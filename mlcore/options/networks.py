"""The network of a run: a whole one, a named pair, or a backbone and a pooling.

``--model NAME`` and ``--backbone NAME --pooling NAME`` exclude each other. A named pair is
resolved into its two parts here, so that the engine builds both forms alike.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from mlcore.errors import ConfigError
from mlcore.factories import (
    BackboneFactory,
    Factory,
    ModelFactory,
    PoolingFactory,
    shared_options,
)
from mlcore.models.catalogue import COMPOSED
from mlcore.models.config import NetworkConfig
from mlcore.options.config import Chosen
from mlcore.options.raw import RawOption
from mlcore.registry.discovery import Registry

_PARTS = ("backbone", "pooling")
_DEFAULT_BACKBONE = "small-cnn"


def part_defaults(given: Sequence[RawOption], registry: Registry) -> dict[str, str]:
    """Return the names of model, backbone and pooling where parts are chosen; else nothing.

    Raises:
        ConfigError: Both a model and a part are chosen, or options of a part without one.
    """
    model = _last(given, "model", "name")
    parts = [item for item in given if item.section in _PARTS]
    chosen = [item for item in parts if item.option == "name"]
    is_composed = model is not None and model.value == COMPOSED.name
    if model is not None and not is_composed and parts:
        raise ConfigError(
            f"{parts[-1].label} cannot be combined with {model.label} {model.value}; leave one "
            f"out (--model.pooling NAME chooses the pooling of a named pair)"
        )
    if not chosen and (parts or is_composed):
        label = parts[-1].label if parts else "--model composed"
        raise ConfigError(f"{label} needs --backbone NAME or --pooling NAME")
    if not chosen:
        return {}
    backbone = _last(given, "backbone", "name")
    name = _DEFAULT_BACKBONE if backbone is None else str(backbone.value)
    pooling = registry.resolve(BackboneFactory, name).pooling
    return {"model": COMPOSED.name, "backbone": name, "pooling": pooling}


def renamed(given: Sequence[RawOption], model: Factory) -> list[RawOption]:
    """Return the options with ``model.pretrained`` under its new name, ``model.weights``.

    Raises:
        ConfigError: Both are given in one place.
    """
    names = {field.name for field in fields(model.config)}
    if "pretrained" in names or "weights" not in names:
        return list(given)
    changed = []
    for item in given:
        if item.section == "model" and item.option == "pretrained":
            if any(other.section == "model" and other.option == "weights" for other in given):
                raise ConfigError(f"{item.label} is --model.weights by its old name; give one")
            if item.file is None:
                sys.stderr.write(
                    "note: --model.pretrained is deprecated; use --model.weights\n"
                )
            item = replace(item, option="weights")  # noqa: PLW2901
        changed.append(item)
    return changed


def parts_of_pair(model: Chosen[ModelFactory], registry: Registry) -> dict[str, Chosen[Any]]:
    """Return backbone and pooling of a named pair; nothing for any other model.

    A part takes those options of the pair that it has by the same name.

    Raises:
        ConfigError: A part does not exist or is ambiguous, or does not take an option's value.
    """
    factory = model.factory
    if not factory.backbone:
        return {}
    owner = registry.owner(factory)
    backbone = registry.resolve(BackboneFactory, factory.backbone, prefer=owner)
    name = getattr(model.options, "pooling", factory.pooling)
    try:
        pooling = registry.resolve(PoolingFactory, name, prefer=owner)
    except ConfigError as error:
        raise ConfigError(f"--model.pooling: {error}") from error
    return {
        "backbone": _taking(backbone, model, registry),
        "pooling": _taking(pooling, model, registry),
    }


def require_taken(
    given: Sequence[RawOption], chosen: Mapping[str, Chosen[Any]], registry: Registry
) -> None:
    """Refuse an option of a named pair that is meant for a part, and that its parts lack.

    An option that no installed backbone or pooling has is the pair's own.

    Raises:
        ConfigError: Names the poolings that have it.
    """
    if not chosen["model"].factory.backbone:
        return
    taken = {f.name for part in _PARTS for f in fields(chosen[part].factory.config)}
    own = {"pooling", *(field.name for field in fields(NetworkConfig)), *taken}
    for item in given:
        if item.file is None and item.section == "model" and item.option not in own:
            having = [
                registry.qualified_name(factory)
                for _, factory in registry.factories(PoolingFactory)
                if item.option in (field.name for field in fields(factory.config))
            ]
            if having:
                raise ConfigError(
                    f"{item.label} has no effect with --model.pooling "
                    f"{chosen['pooling'].name}; --model.pooling {' or '.join(having)} uses it"
                )


def settled_weights(
    model: Chosen[ModelFactory], backbone: Chosen[BackboneFactory], given: Sequence[RawOption]
) -> Chosen[ModelFactory]:
    """Return the model with the weights that it starts from.

    A network of chosen parts takes the first that its backbone offers, unless the user says
    otherwise. A path becomes absolute, so that it means the same elsewhere.
    """
    options = model.options
    if not isinstance(options, NetworkConfig):
        return model
    offered = backbone.factory.weights(backbone.options)
    source = options.weights
    if model.factory is COMPOSED and offered and _last(given, "model", "weights") is None:
        source = offered[0].name
    if source not in ("none", *(weights.name for weights in offered)):
        path = Path(source).expanduser()
        source = str(path.absolute()) if path.exists() else source
    return replace(model, options=replace(options, weights=source))


def recommended_training(
    model: Chosen[ModelFactory], backbone: Chosen[BackboneFactory]
) -> Mapping[str, Any]:
    """Return the values of ``[training]`` options that the weights recommend.

    With the whole backbone frozen: those of a head from scratch, and no augmentation, so that
    features can be kept.
    """
    if getattr(model.options, "trainable_blocks", "all") == "none":
        return {"augment": False, "batch_norm": "frozen"}
    source = getattr(model.options, "weights", "none")
    if source == "none":
        return {}
    for weights in backbone.factory.weights(backbone.options):
        if weights.name == source:
            return weights.training
    return backbone.factory.training


def require_weights(
    model: Chosen[ModelFactory], backbone: Chosen[BackboneFactory] | None
) -> None:
    """Raise MissingLibraryError if the package of the weights is not installed."""
    source = getattr(model.options, "weights", "none")
    for weights in backbone.factory.weights(backbone.options) if backbone else ():
        if weights.name == source:
            weights.require_package()


def _taking(factory: Factory, model: Chosen[ModelFactory], registry: Registry) -> Chosen[Any]:
    try:
        options = shared_options(factory.config, model.options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model {model.name!r}: {error}") from error
    return Chosen(name=registry.qualified_name(factory), factory=factory, options=options)


def _last(given: Sequence[RawOption], section: str, option: str) -> RawOption | None:
    """Return the item that wins, as ``given`` is in rising precedence."""
    found = [item for item in given if (item.section, item.option) == (section, option)]
    return found[-1] if found else None
