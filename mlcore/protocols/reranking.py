"""What compares a photograph with the references that were found for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


@runtime_checkable
class Reranker(Protocol):
    """Compares images in pairs, more closely and more slowly than embeddings do.

    It keeps no state between calls: what it returns for a pair depends on that pair alone.

    Attributes:
        verified_score: A pair with at least this score shows one place. Where no pair has it,
            the order of the embeddings stays.
    """

    @property
    def verified_score(self) -> float: ...

    def __call__(self, query: Tensor, references: Sequence[Tensor]) -> NDArray[np.float64]:
        """Return scores ``(k,)`` of ``k`` references: 0 or more, most for the most alike.

        Images are uint8 ``(3, H, W)``, RGB, of any sizes; an image without any detail has the
        score 0.
        """
        ...
