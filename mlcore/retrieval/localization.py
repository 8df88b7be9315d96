"""Finds where images were taken: the most similar references and their positions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlcore.data.images import NAMED_BY_USER, read_image
from mlcore.errors import DataError
from mlcore.protocols import HasCoordinates, PlaceDataset, PlaceTable
from mlcore.retrieval.confidence import SEARCHED, UNKNOWN, Answer, Confidence
from mlcore.retrieval.embedder import Embedder
from mlcore.retrieval.references import References
from mlcore.retrieval.reranking import Reranking
from mlcore.retrieval.search import search


@dataclass(frozen=True, kw_only=True)
class QueryImage:
    """An image to localize.

    Attributes:
        name: As the user gave it.
        path: Its file; None for an image of the data set given by name.
        index: Its index in the data set, if it is one of the data set's.
        position_m: ``(2,)`` or ``(3,)``, where it was taken, if known.
        region: Name of the region of this position; None for a data set of one region.
    """

    name: str
    path: Path | None = None
    index: int | None = None
    position_m: NDArray[np.float64] | None = None
    region: str | None = None


@dataclass(frozen=True, kw_only=True)
class Match:
    """A retrieved reference.

    Attributes:
        index: Its image index in the data set.
        image: Its name.
        position_m: Easting, northing and, where there is one, altitude.
        heading_rad: Clockwise from north; None if unknown.
        traversal: Name of its traversal.
        condition: Name of its capture condition.
        embedding_distance: Euclidean distance between the embeddings, whitened.
        distance_m: Geometric distance, infinite for another region; None where the position of
            the query is unknown.
        latitude_deg: WGS 84; None if unknown.
        longitude_deg: Likewise.
        region: Name of its region; None for a data set of one region.
    """

    index: int
    image: str
    position_m: tuple[float, ...]
    heading_rad: float | None
    traversal: str
    condition: str
    embedding_distance: float
    distance_m: float | None
    latitude_deg: float | None = None
    longitude_deg: float | None = None
    region: str | None = None


class Localization(NamedTuple):
    """What was found for an image.

    Attributes:
        matches: References, nearest first, or as a reranker ordered them.
        answer: How sure the first one is.
    """

    matches: list[Match]
    answer: Answer


def resolve_images(words: Sequence[str], dataset: PlaceDataset) -> list[QueryImage]:
    """Return images given as paths, or as names of images of the data set.

    A file whose path ends in such a name and whose pixels are the same is that image, so
    its position is known.

    Raises:
        DataError: There is neither such a file nor an image of that name.
    """
    known = {
        dataset.image_name(int(index)): _Known(int(index), table.positions_m[row], region)
        for table in _tables(dataset)
        for row, (index, region) in enumerate(zip(table.index, _regions(table), strict=True))
    }
    asked: list[QueryImage] = []
    for word in words:
        path = Path(word)
        if path.exists():
            asked.append(_recognised(word, path, dataset, known))
        elif word in known:
            asked.append(QueryImage(name=word, **asdict(known[word])))
        else:
            raise DataError(
                f"no image file at {word}, and the data set has no image of that name"
            )
    return asked


def localize(
    asked: Sequence[QueryImage],
    embedder: Embedder,
    dataset: PlaceDataset,
    references: References,
    num_matches: int,
    *,
    confidence: Confidence | None = None,
    reranking: Reranking | None = None,
) -> list[Localization]:
    """Return the nearest references of each image, nearest first.

    Args:
        asked: The images.
        embedder: The one that embedded the references.
        dataset: Where references and images given by name are read from.
        references: To search.
        num_matches: References per image.
        confidence: When an answer can be trusted; None if that is not known.
        reranking: Compares the first references of an unsure answer.

    Raises:
        DataError: An image cannot be read.
    """
    source = QueryImages(asked, dataset)
    embedded = embedder(source, np.arange(len(asked)), "queries")
    queries = references.whiten(embedded.embeddings)
    found = search(references.embeddings, queries, max(num_matches, SEARCHED))
    localized: list[Localization] = []
    for number, one in enumerate(asked):
        matches = [
            _match(references.table, int(row), float(distance), one, dataset)
            for row, distance in zip(found.row[number], found.distance[number], strict=True)
        ]
        answer = UNKNOWN if confidence is None else confidence.answer(matches[:SEARCHED])
        if reranking is not None:
            image = source.load_image(number)
            matches, answer = reranking(
                matches, answer, image, lambda match: dataset.load_image(match.index)
            )
        localized.append(Localization(matches[:num_matches], answer))
    return localized


class QueryImages:
    """The images to localize as a source of images.

    Args:
        asked: The images.
        dataset: What those without a file are read from.
    """

    def __init__(self, asked: Sequence[QueryImage], dataset: PlaceDataset) -> None:
        self._asked = tuple(asked)
        self._dataset = dataset

    def load_image(self, index: int) -> Tensor:
        """Return image ``index`` of the list as uint8 ``(3, H, W)``."""
        one = self._asked[index]
        if one.path is not None:
            return read_image(one.path, remedy=NAMED_BY_USER)
        assert one.index is not None
        return self._dataset.load_image(one.index)

    def image_name(self, index: int) -> str:
        """Return image ``index`` of the list as the user named it."""
        return self._asked[index].name


@dataclass(frozen=True)
class _Known:
    """An image of the data set, as :class:`QueryImage` has it."""

    index: int
    position_m: NDArray[np.float64]
    region: str | None


def _tables(dataset: PlaceDataset) -> list[PlaceTable]:
    splits = (dataset.train, dataset.validation, dataset.test)
    return [table for split in splits for table in (split.references, split.queries)]


def _regions(table: PlaceTable) -> Sequence[str | None]:
    """Return the name of each row's region."""
    if table.region is None:
        return [None] * len(table)
    return [table.regions[code] for code in table.region.tolist()]


def _recognised(
    name: str, path: Path, dataset: PlaceDataset, known: Mapping[str, _Known]
) -> QueryImage:
    """Return the file, as an image of the data set if it is one."""
    parts = path.resolve().parts
    for first in range(len(parts)):
        candidate = known.get(str(PurePath(*parts[first:])))
        if candidate is not None and _shows(path, dataset, candidate.index):
            return QueryImage(name=name, path=path, **asdict(candidate))
    return QueryImage(name=name, path=path)


def _shows(path: Path, dataset: PlaceDataset, index: int) -> bool:
    return torch.equal(read_image(path), dataset.load_image(index))


def _coordinates(dataset: PlaceDataset, index: int) -> tuple[float | None, float | None]:
    """Return latitude and longitude of an image in degrees, if they are known."""
    if not isinstance(dataset, HasCoordinates):
        return None, None
    latitude, longitude = dataset.coordinates_deg(np.array([index]))[0].tolist()
    return (None, None) if math.isnan(latitude + longitude) else (latitude, longitude)


def _match(
    table: PlaceTable,
    row: int,
    embedding_distance: float,
    asked: QueryImage,
    dataset: PlaceDataset,
) -> Match:
    index, there = int(table.index[row]), table.positions_m[row]
    latitude, longitude = _coordinates(dataset, index)
    (region,) = _regions(table.take(slice(row, row + 1)))
    distance_m: float | None = None
    if asked.position_m is not None:
        is_same = region == asked.region
        distance_m = float(np.linalg.norm(there - asked.position_m)) if is_same else math.inf
    return Match(
        index=index,
        image=dataset.image_name(index),
        position_m=tuple(there.tolist()),
        heading_rad=None if table.headings_rad is None else float(table.headings_rad[row]),
        traversal=table.traversals[table.traversal[row]],
        condition=table.conditions[table.condition[row]],
        embedding_distance=embedding_distance,
        distance_m=distance_m,
        latitude_deg=latitude,
        longitude_deg=longitude,
        region=region,
    )
