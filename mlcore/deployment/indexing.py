"""From images to the parts of a map: embedded, whitened, with what is known of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mlcore.data.image_files import find_images
from mlcore.deployment.map_folder import NUMBERS, THUMBNAIL, Part
from mlcore.deployment.model_folder import DeployedModel
from mlcore.deployment.thumbnails import encode
from mlcore.errors import DataError
from mlcore.protocols import HasCoordinates, PlaceDataset, Progress, Split
from mlcore.retrieval.embedder import ImageSource
from mlcore.retrieval.references import keep_spaced

SplitName = Literal["train", "validation", "test"]

_IMAGES_PER_SHARD = 8192


@dataclass(frozen=True, kw_only=True)
class MapImages:
    """Images that a map is made of.

    Attributes:
        source: What reads them.
        index: ``(N,)`` int64, their indices in the source.
        columns: What is known of them, ``(N,)`` each.
        notes: What was left out when they were listed.
    """

    source: ImageSource
    index: NDArray[np.int64]
    columns: dict[str, NDArray[Any]]
    notes: tuple[str, ...] = ()


def images_of_folder(folder: Path) -> MapImages:
    """Return all images below a folder, named by their paths in it; no positions.

    Raises:
        DataError: The folder does not exist, or holds no image.
    """
    images = find_images(folder)
    names = [
        Path(images.image_name(row)).relative_to(folder).as_posix()
        for row in range(len(images))
    ]
    return MapImages(
        source=images,
        index=np.arange(len(images)),
        columns={"image": np.array(names, dtype=object)},
        notes=images.notes,
    )


def images_of_split(dataset: PlaceDataset, split: SplitName, spacing_m: float) -> MapImages:
    """Return the references of a split, thinned as evaluation thins them.

    Args:
        dataset: Where they are read from.
        split: Whose references.
        spacing_m: Least distance along a traversal between two that are kept; 0 keeps all.

    Raises:
        DataError: The split has no references.
    """
    images: Split = getattr(dataset, split)
    table = images.references
    if not len(table):
        raise DataError(
            f"the {split} split has no reference images; choose another with --split"
        )
    table = table.take(keep_spaced(table, spacing_m))
    notes: tuple[str, ...] = ()
    num_queries = len(images.queries)
    if num_queries:
        notes = (f"a map holds references; the {num_queries} queries of {split} are left out",)
    columns: dict[str, NDArray[Any]] = {
        "image": np.array([dataset.image_name(int(row)) for row in table.index], dtype=object),
        "traversal": np.array(table.traversals, dtype=object)[table.traversal],
        "condition": np.array(table.conditions, dtype=object)[table.condition],
        **dict(zip(NUMBERS[:3], table.positions_m.T, strict=False)),
    }
    if table.headings_rad is not None:
        columns["heading_rad"] = table.headings_rad
    if table.region is not None:
        columns["region"] = np.array(table.regions, dtype=object)[table.region]
    if isinstance(dataset, HasCoordinates):
        columns["latitude_deg"], columns["longitude_deg"] = dataset.coordinates_deg(
            table.index
        ).T
    return MapImages(source=dataset, index=table.index, columns=columns, notes=notes)


def embed_parts(
    images: MapImages,
    model: DeployedModel,
    progress: Progress,
    skipped: list[str],
    *,
    thumbnail_px: int = 0,
) -> Iterator[Part]:
    """Yield the parts of a map, so many images each that memory is bounded.

    Args:
        images: To be embedded.
        model: Embeds and whitens them.
        progress: Called with the number of images embedded so far.
        skipped: Receives the names of images that cannot be read, where the model's
            configuration skips them.
        thumbnail_px: Longest side of a thumbnail of each image; 0 for none.

    Raises:
        DataError: An image cannot be read, or none can.
    """
    total = len(images.index)
    num_parts = -(-total // _IMAGES_PER_SHARD)
    num_embedded = 0
    for number in range(num_parts):
        rows = np.arange(
            number * _IMAGES_PER_SHARD, min((number + 1) * _IMAGES_PER_SHARD, total)
        )
        name = (
            "references" if num_parts == 1 else f"references, part {number + 1} of {num_parts}"
        )
        found = model.embedder(progress)(images.source, images.index[rows], name)
        skipped += found.skipped
        kept = rows[found.rows]
        num_embedded += len(kept)
        if len(kept):
            columns: dict[str, Any] = {
                name: column[kept] for name, column in images.columns.items()
            }
            if thumbnail_px:
                columns[THUMBNAIL] = encode(
                    images.source, images.index[kept], thumbnail_px, progress
                )
            yield model.whiten(found.embeddings), columns
    if not num_embedded:
        raise DataError(f"none of {total} images can be read; there is nothing to index")
