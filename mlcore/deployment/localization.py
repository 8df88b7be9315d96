"""Finds where photographs were taken, in one map or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from torch import Tensor

from mlcore.deployment.images import SizedImageSource
from mlcore.deployment.map_folder import MapFolder
from mlcore.deployment.model_folder import DeployedModel
from mlcore.errors import DataError
from mlcore.protocols import Progress, no_progress
from mlcore.retrieval.confidence import SEARCHED, UNKNOWN, Answer
from mlcore.retrieval.reranking import Reranking


@dataclass(frozen=True, kw_only=True)
class MapMatch:
    """A retrieved reference.

    Attributes:
        map: Folder of the map that it is in.
        image: Its name.
        position_m: Easting, northing and, where there is one, altitude; None if unknown.
        latitude_deg: WGS 84; None if unknown.
        longitude_deg: Likewise.
        heading_rad: Clockwise from north; None if unknown.
        traversal: Name of its traversal; None if unknown.
        condition: Name of its capture condition; None if unknown.
        embedding_distance: Euclidean distance between the embeddings, whitened.
        region: Name of the region that the position is in; None for a map of one region.
    """

    map: str
    image: str
    position_m: tuple[float, ...] | None
    latitude_deg: float | None
    longitude_deg: float | None
    heading_rad: float | None
    traversal: str | None
    condition: str | None
    embedding_distance: float
    region: str | None


class Localization(NamedTuple):
    """What was found for an image.

    Attributes:
        matches: References, nearest first, or as a reranker ordered them.
        answer: How sure the first one is.
    """

    matches: list[MapMatch]
    answer: Answer


class _Row(NamedTuple):
    """Where a match is stored."""

    match: MapMatch
    folder: MapFolder
    row: int

    @property
    def embedding_distance(self) -> float:
        return self.match.embedding_distance

    @property
    def position_m(self) -> tuple[float, ...] | None:
        return self.match.position_m

    @property
    def region(self) -> str | None:
        return self.match.region


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
    images: SizedImageSource,
    maps: Sequence[MapFolder],
    model: DeployedModel,
    num_matches: int,
    progress: Progress = no_progress,
    reranking: Reranking | None = None,
) -> list[Localization]:
    """Return the nearest references of each image over all maps, nearest first.

    Args:
        images: To localize.
        maps: All of one model, checked by :func:`require_one_model`.
        model: That model.
        num_matches: References per image, from all maps together.
        progress: Called with the number of images embedded.
        reranking: Compares the first references of an unsure answer; the maps must have
            thumbnails.

    Raises:
        DataError: An image cannot be read, a map is empty, or has no thumbnails to compare.
    """
    if reranking is not None:
        for one in maps:
            one.require_thumbnails()
    # Images that the user names are never skipped.
    embedder = replace(model.embedder(progress), skip_unreadable=False)
    embedded = embedder(images, np.arange(len(images)), "queries")
    queries = model.whiten(embedded.embeddings)
    found: list[list[_Row]] = [[] for _ in range(len(images))]
    for one in maps:
        neighbours = one.search(queries, max(num_matches, SEARCHED))
        for rows, numbers, distances in zip(
            found, neighbours.row, neighbours.distance, strict=True
        ):
            is_found = numbers >= 0
            known = one.rows(numbers[is_found].tolist())
            rows += [
                _Row(_match(one, columns, float(distance)), one, int(number))
                for columns, distance, number in zip(
                    known, distances[is_found], numbers[is_found], strict=True
                )
            ]
    localized: list[Localization] = []
    for number, rows in enumerate(found):
        rows.sort(key=lambda row: row.embedding_distance)
        confidence = model.confidence
        answer = UNKNOWN if confidence is None else confidence.answer(rows[:SEARCHED])
        if reranking is not None:
            query = images.load_image(number)
            rows, answer = reranking(rows, answer, query, _thumbnail)  # noqa: PLW2901
        localized.append(Localization([row.match for row in rows[:num_matches]], answer))
    return localized


def _thumbnail(row: _Row) -> Tensor:
    return row.folder.thumbnail(row.row)


def _match(
    folder: MapFolder, known: dict[str, str | float | None], distance: float
) -> MapMatch:
    axes = (known["easting_m"], known["northing_m"], known["altitude_m"])
    position = tuple(float(value) for value in axes if value is not None)
    traversal, condition = known["traversal"], known["condition"]
    region = known.get("region")
    return MapMatch(
        map=str(folder.path),
        image=str(known["image"]),
        position_m=position or None,
        latitude_deg=_number(known.get("latitude_deg")),
        longitude_deg=_number(known.get("longitude_deg")),
        heading_rad=_number(known["heading_rad"]),
        traversal=None if traversal is None else str(traversal),
        condition=None if condition is None else str(condition),
        embedding_distance=distance,
        region=None if region is None else str(region),
    )


def _number(value: str | float | None) -> float | None:
    return None if value is None else float(value)
