"""A data set whose map is what is trained on, to adapt a network to the place it works in."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlcore.protocols import PlaceDataset, Split

_OPTIONAL = ("path", "extras")
"""Methods that ``isinstance`` looks for, which does not ask ``__getattr__``."""


class TrainedOnReferences:
    """A data set that trains on the references of its test split, and on no query.

    Everything else, optional attributes included, is that of the data set.

    Args:
        dataset: The data set.
    """

    def __init__(self, dataset: PlaceDataset) -> None:
        self.original = dataset
        references = dataset.test.references
        self.train = Split(references=references, queries=references.take(np.arange(0)))
        for name in _OPTIONAL:
            if hasattr(dataset, name):
                setattr(self, name, getattr(dataset, name))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "original":  # asked for while it is unpickled
            raise AttributeError(name)
        return getattr(self.original, name)
