"""Reranks the first references of an unsure answer by comparing their images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from torch import Tensor

from mlcore.errors import PluginError
from mlcore.factories import BuildContext, RerankerFactory
from mlcore.options.config import Chosen, attribute_errors
from mlcore.protocols import Reranker
from mlcore.retrieval.confidence import Answer, Found

F = TypeVar("F", bound=Found)


@dataclass(frozen=True)
class Reranking:
    """A reranker and how much it compares.

    Attributes:
        chosen: Where it comes from, for messages.
        reranker: Compares images.
        num_compared: References per image that are compared.
    """

    chosen: Chosen[RerankerFactory]
    reranker: Reranker
    num_compared: int

    @classmethod
    def of(cls, chosen: Chosen[RerankerFactory], num_compared: int) -> Reranking:
        """Build a reranker.

        Raises:
            MissingLibraryError: A library that it needs is not installed.
        """
        chosen.factory.require_libraries()
        with attribute_errors(chosen, "could not be built"):
            reranker = chosen.factory.build(chosen.options, BuildContext())
        return cls(chosen, reranker, num_compared)

    def __call__(
        self, found: Sequence[F], answer: Answer, query: Tensor, load: Callable[[F], Tensor]
    ) -> tuple[list[F], Answer]:
        """Return references in their new order, and how sure the first one is now.

        A sure answer stays as it is. Without a verified reference the order stays, so that a
        reranker that sees nothing in the images cannot make a result worse.

        Args:
            found: References of one image, nearest first.
            answer: How sure the first one is.
            query: The image, uint8 ``(3, H, W)``.
            load: Returns the image of a reference likewise.

        Raises:
            PluginError: The reranker fails, or returns something else than scores.
        """
        if answer.confidence == "sure" or not found:
            return list(found), answer
        compared = found[: self.num_compared]
        images = [load(one) for one in compared]
        with attribute_errors(self.chosen, "could not compare images"):
            scores = np.asarray(self.reranker(query, images), dtype=np.float64)
        if scores.shape != (len(images),) or not np.isfinite(scores).all():
            raise PluginError(
                f"reranker {self.chosen.name!r} must return {len(images)} finite scores, got "
                f"{scores.tolist()}"
            )
        best, needed = float(scores.max()), self.reranker.verified_score
        if best < needed:
            reason = f"{answer.reason}; {self.chosen.name} verified no reference (best {best:g}"
            return list(found), Answer(
                confidence=answer.confidence, reason=f"{reason} of {needed:g})"
            )
        order = np.argsort(-scores, kind="stable").tolist()
        verified = Answer(
            confidence="verified", reason=f"{self.chosen.name} score {best:g} of {needed:g}"
        )
        return [*(compared[row] for row in order), *found[self.num_compared :]], verified
