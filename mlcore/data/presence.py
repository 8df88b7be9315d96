"""Whether a data set has the images that training, and the evaluation after it, need."""

from __future__ import annotations

import os
from typing import Literal

import numpy as np

from mlcore.errors import DataError
from mlcore.protocols import HasImageFiles, PlaceDataset, PlaceTable, Split

_MOST_FILES = 200_000
"""Files of one table that are looked for before training, evenly spaced: seconds on a disk."""


def require_images(
    dataset: PlaceDataset,
    split: Literal["test", "validation"] | None,
    *,
    name: str,
    skip_unreadable: bool,
) -> None:
    """Check before the first step that the data suffice for training and evaluation.

    Args:
        dataset: The data set, open.
        split: The split that is evaluated after training; None for none.
        name: Of the data set, for messages.
        skip_unreadable: Whether missing files are left out instead.

    Raises:
        DataError: The split has no reference or no query, or the file of an image is missing
            and ``skip_unreadable`` is off.
    """
    used_splits = [dataset.train]
    if split is not None:
        evaluated: Split = getattr(dataset, split)
        for part, table in (("reference", evaluated.references), ("query", evaluated.queries)):
            if not len(table):
                raise DataError(
                    f"the {split} split has no {part} images, so the trained model could not "
                    f"be evaluated; change the options of data set {name!r} that select them, "
                    "or train without evaluation: --training.evaluate false"
                )
        used_splits.append(evaluated)
    if skip_unreadable or not isinstance(dataset, HasImageFiles):
        return
    for used in used_splits:
        for table in (used.references, used.queries):
            _require_files(dataset, table)


def _require_files(dataset: HasImageFiles, table: PlaceTable) -> None:
    rows = np.linspace(0, len(table) - 1, min(len(table), _MOST_FILES)).astype(int)
    missing = [
        path for index in table.index[rows] if not (path := dataset.path(int(index))).exists()
    ]
    if missing:
        os.fsencode(missing[0])  # a locale without the letters of a name finds none
        raise DataError(
            f"{len(missing)} of {len(rows)} image files checked are missing, the first is "
            f"{missing[0]}; restore them, or leave them out with "
            "--training.skip_unreadable true"
        )
