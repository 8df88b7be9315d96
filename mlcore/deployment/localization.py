"""Finds where photographs were taken, in one map or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlcore.data.image_files import ImageFiles
from mlcore.deployment.map_folder import MapFolder
from mlcore.deployment.model_folder import DeployedModel
from mlcore.errors import DataError
from mlcore.protocols import Progress, no_progress


@dataclass(frozen=True, kw_only=True)
class MapMatch:
    """A retrieved reference.

    Attributes:
        map: Folder of the map that it is in.
        image: Its name.
        position_m: Easting, northing and, where there is one, altitude; None if unknown.
        heading_rad: Clockwise from north; None if unknown.
        traversal: Name of its traversal; None if unknown.
        condition: Name of its capture condition; None if unknown.
        embedding_distance: Euclidean distance between the embeddings, whitened.
        region: Name of the region that the position is in; None for a map of one region.
    """

    map: str
    image: str
    position_m: tuple[float, ...] | None
    heading_rad: float | None
    traversal: str | None
    condition: str | None
    embedding_distance: float
    region: str | None


def require_one_model(maps: Sequence[MapFolder]) -> None:
    """Check that distances in all maps can be compared.

    Raises:
        DataError: Two maps are of different models.
    """
    for other in maps[1:]:
        if other.info.model != maps[0].info.model:
            raise DataError(
                f"maps {maps[0].path} and {other.path} are of different models, so that their "
                "distances cannot be compared; make both with 'mlcore index' and one run"
            )


def localize_in_maps(
    images: Sequence[Path],
    maps: Sequence[MapFolder],
    model: DeployedModel,
    num_matches: int,
    progress: Progress = no_progress,
) -> list[list[MapMatch]]:
    """Return the nearest references of each image over all maps, nearest first.

    Args:
        images: Files.
        maps: All of one model, checked by :func:`require_one_model`.
        model: That model.
        num_matches: References per image, from all maps together.
        progress: Called with the number of images embedded.

    Raises:
        DataError: A file is missing or not an image, or a map is empty.
    """
    for path in images:
        if not path.exists():
            raise DataError(f"no image file at {path}; a map is searched with image files")
    source = ImageFiles(images)
    embedded = model.embedder(progress)(source, np.arange(len(images)), "queries")
    queries = model.whiten(embedded.embeddings)
    found: list[list[MapMatch]] = [[] for _ in images]
    for one in maps:
        neighbours = one.search(queries, num_matches)
        for matches, rows, distances in zip(
            found, neighbours.row, neighbours.distance, strict=True
        ):
            is_found = rows >= 0
            known = one.rows(rows[is_found].tolist())
            matches += [
                _match(one, columns, float(distance))
                for columns, distance in zip(known, distances[is_found], strict=True)
            ]
    for matches in found:
        matches.sort(key=lambda match: match.embedding_distance)
    return [matches[:num_matches] for matches in found]


def _match(
    folder: MapFolder, known: dict[str, str | float | None], distance: float
) -> MapMatch:
    axes = (known["easting_m"], known["northing_m"], known["altitude_m"])
    position = tuple(float(value) for value in axes if value is not None)
    heading = known["heading_rad"]
    traversal, condition = known["traversal"], known["condition"]
    region = known.get("region")
    return MapMatch(
        map=str(folder.path),
        image=str(known["image"]),
        position_m=position or None,
        heading_rad=None if heading is None else float(heading),
        traversal=None if traversal is None else str(traversal),
        condition=None if condition is None else str(condition),
        embedding_distance=distance,
        region=None if region is None else str(region),
    )
