"""Options of a command line that do nothing there: refused, with what would use them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from mlcore.errors import ConfigError
from mlcore.options.config import RunConfig
from mlcore.options.raw import CONFIG, RawOption

_OF_EMBEDDINGS = ("hard_features", "hard_pool", "hard_refresh")
_OF_TUPLES = ("tuples_per_batch", "near_per_tuple", "far_per_tuple")
_OF_PLACES = ("places_per_batch", "images_per_place")
_OF_CLIQUES = ("clique_centers", "clique_radius_m")
_OF_WHITENING = ("dimensions", "whitening_images")


def require_effect(configs: Collection[RunConfig], given: Sequence[RawOption]) -> None:
    """Refuse options that other options of a run leave without effect.

    Only those of the command line: a run's file lists every option, used or not.

    Args:
        configs: The run, or the runs of a comparison, of which one has to use an option.
        given: The options.

    Raises:
        ConfigError: An option has no effect.
    """
    unused = [_unused(config) for config in configs]
    for item in given:
        key = f"{item.section}.{item.option}"
        if item.file is None and all(key in reasons for reasons in unused):
            raise ConfigError(f"{item.label} has no effect with {unused[0][key]}")


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


def _unused(config: RunConfig) -> Mapping[str, str]:
    """Return the options that a run does not use, each with the reason and how to fix it."""
    found: dict[str, str] = {}
    scheme = config.sampling.scheme
    for names, schemes in (
        (_OF_TUPLES, ("tuples",)),
        (_OF_PLACES, ("places", "cliques")),
        (_OF_CLIQUES, ("cliques",)),
        (("location_spacing_m",), ("tuples", "cliques")),
    ):
        if scheme not in schemes:
            reason = f"--sampling.scheme {scheme}; choose {' or '.join(schemes)}"
            found |= {f"sampling.{name}": reason for name in names}
    if not config.sampling.uses_embeddings:
        reason = "--sampling.hard_per_tuple 0; choose at least 1, or --sampling.scheme cliques"
        found |= {f"sampling.{name}": reason for name in _OF_EMBEDDINGS}
    on_grid = config.sampling.scheme == "places"  # where the data set has no places
    if "labels" not in config.loss.factory.needs and config.miner is None and not on_grid:
        reason = f"--loss {config.loss.name}, which has no use for classes; leave it out"
        found["sampling.place_cell_m"] = reason
    if config.evaluation.whitening == "none":
        reason = "--evaluation.whitening none; choose train or references"
        found |= {f"evaluation.{name}": reason for name in _OF_WHITENING}
    return found
