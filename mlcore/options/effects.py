"""Options of a command line that do nothing there: refused, with what would use them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from mlcore.errors import ConfigError
from mlcore.models.config import NetworkConfig
from mlcore.options.config import RunConfig
from mlcore.options.raw import CONFIG, RawOption
from mlcore.options.several import SeveralOptions

_OF_EMBEDDINGS = ("hard_features", "hard_pool", "hard_refresh")
_OF_SCHEME: Mapping[str, frozenset[str]] = {
    "tuples": frozenset(
        {
            "tuples_per_batch",
            "near_per_tuple",
            "far_per_tuple",
            "location_spacing_m",
            "hard_per_tuple",
            *_OF_EMBEDDINGS,
        }
    ),
    "places": frozenset({"places_per_batch", "images_per_place"}),
    "cliques": frozenset(
        {
            "places_per_batch",
            "images_per_place",
            "clique_centers",
            "clique_radius_m",
            "location_spacing_m",
            *_OF_EMBEDDINGS,
        }
    ),
}
"""The sampling options that only some schemes read; all schemes read the others."""

_OF_WHITENING = ("dimensions", "whitening_images")
_OF_MODEL = ("whitening", "dimensions", "whitening_images", "batch_size")
"""What a run without evaluation reads too: it fits and keeps the whitening."""
_OF_VALIDATION = ("thresholds_m", "auc_limits_m", "spacing_m")


def require_effect(configs: Collection[RunConfig], given: Sequence[RawOption]) -> None:
    """Refuse options that other options of a run leave without effect.

    Only those of the command line: a run's file lists every option, used or not.

    Args:
        configs: The run, or the runs of a comparison, of which one has to use an option.
        given: The options.

    Raises:
        ConfigError: An option has no effect.
    """
    refuse_unused([_unused_in_training(config) for config in configs], given)


def require_effect_in_evaluation(config: RunConfig, given: Sequence[RawOption]) -> None:
    """Refuse options that others leave without effect where a trained run is used.

    Raises:
        ConfigError: An option has no effect.
    """
    refuse_unused([dict(_unused_in_evaluation(config))], given)


def refuse_unused(unused: Sequence[Mapping[str, str]], given: Iterable[RawOption]) -> None:
    """Refuse options of a command line that none of several runs uses.

    Args:
        unused: Of each run, what an option that it does not use has no effect with, by key.
        given: The options.

    Raises:
        ConfigError: An option has no effect.
    """
    for item in given:
        if item.file is None and all(item.key in reasons for reasons in unused):
            raise ConfigError(f"{item.label} has no effect with {unused[0][item.key]}")


def require_dataset_options(given: Iterable[RawOption], command: str) -> None:
    """Refuse options of a command line that do not belong to a data set.

    Args:
        given: The options, known to exist.
        command: The command, which uses a data set and nothing else of a run.

    Raises:
        ConfigError: One is of another component or of the engine.
    """
    for item in given:
        if item.file is None and item.section != "dataset" and item.key != CONFIG:
            raise ConfigError(
                f"{item.label} has no effect in '{command}', which uses --dataset and its "
                "options"
            )


def _unused_in_training(config: RunConfig) -> Mapping[str, str]:
    """Return the options that a run does not use, each with the reason and how to fix it."""
    return dict(
        (
            *_unused_in_evaluation(config),
            *_unused_in_sampling(config),
            *_unused_by_network(config),
            *_unused_without_memory(config),
            *_unused_without_evaluation(config),
        )
    )


def _unused_in_sampling(config: RunConfig) -> Iterator[tuple[str, str]]:
    sampling = config.sampling
    if not sampling.uses_embeddings:
        reason = "--sampling.hard_per_tuple 0; choose at least 1, or --sampling.scheme cliques"
        yield from ((f"sampling.{name}", reason) for name in _OF_EMBEDDINGS)
    read = _OF_SCHEME[sampling.scheme]
    for name in frozenset().union(*_OF_SCHEME.values()) - read:
        users = " or ".join(scheme for scheme, names in _OF_SCHEME.items() if name in names)
        yield f"sampling.{name}", f"--sampling.scheme {sampling.scheme}; choose {users}"
    by_class = "labels" in config.loss.factory.needs or config.miner is not None
    if not by_class and sampling.scheme != "places":
        reason = f"--loss {config.loss.name}, which has no use for classes; leave it out"
        yield "sampling.place_cell_m", reason
    if sampling.balance == "datasets" and not isinstance(
        config.dataset.options, SeveralOptions
    ):
        yield "sampling.balance", "one data set; give --dataset A,B, or choose regions"


def _unused_by_network(config: RunConfig) -> Iterator[tuple[str, str]]:
    options, name = config.model.options, config.model.name
    if options.input_height_px is not None or options.input_width_px is not None:
        reason = "--model.input_height_px or --model.input_width_px; leave it out"
        yield "model.longest_side_px", reason
    blocks = options.trainable_blocks if isinstance(options, NetworkConfig) else "all"
    if config.backbone is None:
        reason = f"--model {name}, whose backbone is not known; choose --backbone NAME"
        yield "training.backbone_rate", reason
        yield "training.layer_decay", reason
    elif blocks in ("none", 1):
        reason = f"--model.trainable_blocks {blocks}; train more blocks"
        yield "training.layer_decay", reason
        if blocks == "none":
            yield "training.backbone_rate", reason
    if blocks != "none":
        reason = f"--model.trainable_blocks {blocks}; features are kept only with none"
        yield "model.feature_cache_mib", reason


def _unused_without_memory(config: RunConfig) -> Iterator[tuple[str, str]]:
    if not config.training.memory:
        yield "training.memory_start", "--training.memory 0; choose at least 1"


def _unused_in_evaluation(config: RunConfig) -> Iterator[tuple[str, str]]:
    if config.evaluation.whitening == "none":
        reason = "--evaluation.whitening none; choose train or references"
        yield from ((f"evaluation.{name}", reason) for name in _OF_WHITENING)


def _unused_without_evaluation(config: RunConfig) -> Iterator[tuple[str, str]]:
    training = config.training
    if training.evaluate:
        return
    read = {*_OF_MODEL}
    if training.validate_every:
        read |= {*_OF_VALIDATION}
    if config.evaluation.whitening == "references":
        read.add("spacing_m")
    reason = "--training.evaluate false; give it to 'mlcore evaluate', or evaluate"
    for name in vars(config.evaluation):
        if name not in read:
            yield f"evaluation.{name}", reason
