"""What the results of a run depend on, and what has changed when it is resumed.

``environment.json`` records the data, the code and the configuration that a run started with,
and a history of every time it was resumed. A run continues with the same ones, or with changes
that the user has accepted by name: a model trained partly on other data is a result for
neither.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import inspect
import shlex
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcore.data.adaptation import TrainedOnReferences
from mlcore.errors import ConfigError, DataError
from mlcore.option_types import members, options_of
from mlcore.options import Chosen, RunConfig, run_to_toml
from mlcore.options.several import parts_of
from mlcore.run_folder import KINDS, Kind

if TYPE_CHECKING:
    from mlcore.experiment import Experiment
    from mlcore.factories import Factory
    from mlcore.registry.discovery import Registry

Values = Mapping[str, str]
Changes = dict[Kind, dict[str, tuple[str | None, str | None]]]
"""Changes by kind: the value before and now, None if there is none."""

_ROUNDING_ONLY = frozenset(
    f"training.{name}"
    for name in (
        *("accelerator", "devices", "num_nodes", "num_workers", "chunk_size", "compile"),
        *("check_memory", "skip_unreadable", "checkpoint_every", "log_every", "loggers"),
    )
) | {"evaluation.batch_size"}
"""Options that do not change the results of a run beyond rounding."""

_SOURCES = frozenset({".py", ".pyx", ".c", ".cc", ".cpp", ".cu", ".cuh", ".h"})


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What the results of a run depend on, as text by name.

    Attributes:
        data: The data set's fingerprint.
        code: Versions of mlcore, torch and the distributions of the plugins used; digests
            of the source of each component and of the sampler.
        config: Every option by its dotted name.
    """

    data: Values
    code: Values
    config: Values

    def differences(self, now: Provenance) -> Changes:
        """Return what differs in ``now``; nothing if this is empty."""
        changes: Changes = {}
        for kind in KINDS:
            before, after = getattr(self, kind), getattr(now, kind)
            names = [n for n in {**before, **after} if before.get(n) != after.get(n)]
            if before and names:
                changes[kind] = {n: (before.get(n), after.get(n)) for n in names}
        return changes


def provenance_of(experiment: Experiment, registry: Registry) -> Provenance:
    """Return what the results of an assembled run depend on."""
    config = experiment.config
    code = {"mlcore": version("mlcore-localization"), "torch": version("torch")}
    datasets = parts_of(config.dataset)
    dataset: Any = experiment.dataset
    if isinstance(dataset, TrainedOnReferences):  # an option of training, not another source
        dataset = dataset.original
    opened = [dataset] if len(datasets) == 1 else dataset.parts.values()
    components: list[tuple[str, Chosen[Any] | None, Any]] = [
        *(
            (name, one, part)
            for (name, one), part in zip(datasets.items(), opened, strict=True)
        ),
        ("model", config.model, experiment.model),
        ("loss", config.loss, experiment.loss),
        ("influence", config.influence, experiment.influence),
        ("miner", config.miner, experiment.miner),
    ]
    for section, chosen, part in components:
        if chosen is None:
            continue
        for plugin in registry.plugins:
            if any(factory is chosen.factory for factory in plugin.factories):
                code[f"plugin {plugin.name}"] = f"{plugin.distribution} {plugin.version}"
        code[f"source of the {section}"] = _digest(_sources(chosen.factory, part))
    code["source of the sampler"] = _digest(_files_of("mlcore.sampling"))
    return Provenance(
        data={"fingerprint": experiment.dataset.fingerprint},
        code=code,
        config=_flat(tomllib.loads(run_to_toml(config))),
    )


def began_with(provenance: Provenance) -> dict[str, Any]:
    """Return the content of ``environment.json`` for a new run."""
    return {
        "code": dict(provenance.code),
        "configuration": dict(provenance.config),
        "history": [],
    }


def went_on(
    environment: Mapping[str, Any],
    now: Provenance,
    config: RunConfig,
    *,
    accepted: Sequence[Kind] = (),
    step: int = 0,
) -> dict[str, Any]:
    """Return ``environment.json`` with one more entry in its history.

    Args:
        environment: As it is.
        now: What the run would continue with.
        config: The configuration it would continue with.
        accepted: Kinds of changes that the user accepts.
        step: Optimizer steps already taken.

    Raises:
        ConfigError: A change that affects results is not accepted.
        DataError: ``environment`` is damaged.
    """
    try:
        changes = _last_known(environment).differences(now)
        history = list(environment.get("history", []))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"environment.json is damaged ({type(error).__name__}: {error}); restore it, or "
            "remove it to continue without checking whether data, code and options have "
            "changed"
        ) from error
    _require_accepted(_that_matter(changes, config), config, accepted)
    entry = {
        "date": dt.datetime.now(tz=dt.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["mlcore", *sys.argv[1:]]),
        "step": step,
        "accepted": list(accepted),
        "changes": {
            kind: {name: {"before": old, "now": new} for name, (old, new) in found.items()}
            for kind, found in changes.items()
        },
    }
    return {**environment, "history": [*history, entry]}


def _last_known(environment: Mapping[str, Any]) -> Provenance:
    """Return what a run last used: what it started with, and the changes since."""
    values: dict[str, dict[str, str]] = {
        "data": {"fingerprint": environment["data_fingerprint"]},
        "code": dict(environment.get("code", {})),
        "config": dict(environment.get("configuration", {})),
    }
    for entry in environment.get("history", []):
        for kind, changes in entry["changes"].items():
            for name, change in changes.items():
                if change["now"] is None:
                    values[kind].pop(name, None)
                else:
                    values[kind][name] = change["now"]
    return Provenance(**values)


def _that_matter(changes: Changes, config: RunConfig) -> Changes:
    """Return the changes that affect results beyond rounding."""
    moved = {
        f"{section}.{name}"
        for section, part in parts_of(config.dataset).items()
        for name in _path_options(part.factory)
    }
    free = _ROUNDING_ONLY | moved  # for a moved data set, the fingerprint is enough
    found = {
        name: values
        for name, values in changes.get("config", {}).items()
        if name not in free and not _is_longer(name, values, config)
    }
    rest: Changes = {kind: changes[kind] for kind in KINDS if kind in changes}
    rest.pop("config", None)
    return {**rest, "config": found} if found else rest


def _is_longer(name: str, values: tuple[str | None, str | None], config: RunConfig) -> bool:
    """Return whether a change only adds steps after those that the run has."""
    if name != "training.max_steps" or _reason_against_steps(config):
        return False
    before, now = (int(value or 0) for value in values)
    return now > before


def _reason_against_steps(config: RunConfig) -> str:
    """Return why more steps would change the steps already taken; "" if they would not."""
    if config.training.schedule == "cosine":
        return "the learning rate of every step of the cosine schedule depends on it"
    if config.sampling.uses_embeddings:
        return "batches were planned only for the original number of steps"
    return ""


def _require_accepted(changes: Changes, config: RunConfig, accepted: Sequence[Kind]) -> None:
    refused = [kind for kind in changes if kind not in accepted]
    if not refused:
        return
    parts = [_in_words(kind, changes[kind], config) for kind in refused]
    kinds = ",".join(dict.fromkeys([*accepted, *refused]))
    raise ConfigError(
        f"this run started with other {' and '.join(map(_NAMES.__getitem__, refused))}: "
        f"{'; '.join(parts)}. Restore the original, train a new run, or continue anyway "
        f"with --accept-changes {kinds}, which environment.json will record"
    )


_NAMES: dict[Kind, str] = {"data": "data", "code": "code", "config": "options"}


def _in_words(
    kind: Kind, changes: Mapping[str, tuple[str | None, str | None]], config: RunConfig
) -> str:
    words = []
    for name, (before, now) in changes.items():
        label = name
        if kind == "data":
            label = f"{name} of data set {config.dataset.name!r}"
        elif kind == "config":
            label = f"--{name.removesuffix('.name')}"
        if name.startswith("source of "):
            words.append(f"the {name} has changed")
            continue
        reason = _reason_against_steps(config) if name == "training.max_steps" else ""
        change = f"{label} was {_shown(before)} and is now {_shown(now)}"
        words.append(f"{change} ({reason})" if reason else change)
    return ", ".join(words)


def _shown(value: str | None) -> str:
    return "absent" if value is None else value


def _flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return the leaves of nested mappings as texts, by dotted names."""
    flat: dict[str, str] = {}
    for name, value in document.items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            flat |= _flat(
                {str(k + 1): item for k, item in enumerate(value)}, f"{prefix}{name}."
            )
        elif isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = str(value)
    return flat


def _path_options(factory: Factory) -> list[str]:
    """Return the names of a component's options that are paths, or several of them."""
    return [o.name for o in options_of(factory.config) if Path in _leaves(o.hint)]


def _leaves(hint: Any) -> Iterator[Any]:
    for member in members(hint):
        arguments = getattr(member, "__args__", ())
        yield from arguments or (member,)


def _sources(factory: Factory, component: Any) -> list[Path]:
    """Return the source files of a component: its plugin's package, and its own module."""
    files = _files_of(getattr(factory.build, "__module__", None) or factory.config.__module__)
    try:
        own = inspect.getsourcefile(type(component))
    except TypeError:
        own = None  # built in, or made by a program
    return sorted({*files, *([Path(own)] if own else [])})


def _files_of(module: str) -> list[Path]:
    """Return the source files of a module's package: mlcore's own by its second name."""
    names = module.split(".")
    depth = 2 if names[0] == "mlcore" else 1
    package = import_module(".".join(names[:depth]))
    while package.__file__ is None and depth < len(names):  # several distributions share it
        depth += 1
        package = import_module(".".join(names[:depth]))
    if package.__file__ is None:
        return []
    if not hasattr(package, "__path__"):
        return [Path(package.__file__)]
    folder = Path(package.__file__).parent
    return sorted(path for path in folder.rglob("*") if path.suffix in _SOURCES)


def _digest(files: Sequence[Path]) -> str:
    """Return a digest of names and contents; where the files lie does not matter."""
    digest = hashlib.blake2b(digest_size=16)
    for path in files:
        content = path.read_bytes() if path.is_file() else b""
        digest.update(f"{path.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()
