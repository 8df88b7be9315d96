"""Batches that depend on embeddings: planned a window of steps ahead of their use.

A window is planned as a whole, so that neither prefetching nor the number of workers changes a
batch; what is planned is kept in the checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mlcore.sampling.training_images import Rows


class Embed(Protocol):
    """Embeds training images."""

    def __call__(self, rows: Rows) -> tuple[Rows, NDArray[np.float32]]:
        """Return the readable ``rows`` and their embeddings, one per row."""
        ...


class PlannedAhead(Protocol):
    """What a planner plans by embeddings.

    Attributes:
        steps_per_window: Steps that are planned at once.
    """

    steps_per_window: int

    def has_planned(self, window: int) -> bool:
        """Return whether a window is planned."""
        ...

    def plan(self, window: int, embed: Embed) -> None:
        """Plan a window; forget that of two windows ago."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what is planned as plain values."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        ...


class Directions:
    """Directions of the embeddings of some rows; a loss may leave their length free.

    Args:
        rows: ``(N,)``, ascending.
        embeddings: ``(N, D)``.
    """

    def __init__(self, rows: Rows, embeddings: NDArray[np.float32]) -> None:
        self._rows = rows
        length = np.linalg.norm(embeddings, axis=1, keepdims=True)
        self._directions = embeddings / np.maximum(length, 1e-12)

    def by_similarity(self, anchor: int, rows: Rows) -> Rows:
        """Return ``rows`` that have an embedding, the most similar to the anchor first.

        None, if the anchor has no embedding: its image could not be read.
        """
        known = rows[np.isin(rows, self._rows)]
        if anchor not in self._rows:
            return known[:0]
        place = np.searchsorted(self._rows, known)
        own = self._directions[np.searchsorted(self._rows, anchor)]
        found: Rows = known[np.argsort(-(self._directions[place] @ own), kind="stable")]
        return found
