"""The multi-similarity loss as the soft contrastive paper compares with it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mlcore.geometry import NearFar
from mlcore.protocols import Batch, LossOutput, Pairs, Role, Triplets


class Classes(NamedTuple):
    """Which pairs are of one class and which of different ones; the rest is neither.

    Attributes:
        same: ``(B, B)`` bool, symmetric, False on the diagonal.
        different: ``(B, B)`` bool, symmetric, False on the diagonal.
    """

    same: Tensor
    different: Tensor


class PaperMultiSimilarityLoss(nn.Module):
    """Multi-similarity with base 1 and similarities clamped at 0.

    With cosine similarities s_ij = max(0, cos), same-class images P_i and different-class
    images N_i, the mean over all images of

        log(1 + sum_P exp(-alpha (s_ij - base))) / alpha
        + log(1 + sum_N exp(beta (s_ij - base))) / beta,

    where mining drops positives at least epsilon more similar than the most similar
    negative, and negatives at least epsilon less similar than the least similar positive:
    Wang et al., Multi-Similarity Loss, CVPR 2019. Clamp and base 1 are
    those of Thoma et al., Soft Contrastive Learning for Visual Localization, NeurIPS 2020.

    *Classes.* Inside a tuple, as there: the anchor and its near images are one class, every
    far image (an other-far one included) is a class of its own. The paper trains on one
    tuple at a time. Between the images of several tuples the same rule would call places
    different that are near, so ``across_tuples`` decides: "geometry" takes pairs within the
    near radius as same, beyond the far radius as different, and leaves out the rest, so
    that all pairs take part as in the soft contrastive loss; "ignore" leaves out all, which
    is the mean of the losses of single tuples, weighted by their size.

    Args:
        geometry: What is near and far across tuples; None ignores pairs across tuples.
        alpha: Sharpness of the positive term.
        beta: Sharpness of the negative term.
        base: Similarity at which a pair counts neither way.
        mining: Whether to drop easy pairs.
        epsilon: Tolerance of mining, in cosine similarity.
    """

    def __init__(
        self,
        *,
        geometry: NearFar | None = None,
        alpha: float = 2.0,
        beta: float = 50.0,
        base: float = 1.0,
        mining: bool = True,
        epsilon: float = 0.1,
    ) -> None:
        super().__init__()
        self.geometry = geometry
        self.alpha = alpha
        self.beta = beta
        self.base = base
        self.mining = mining
        self.epsilon = epsilon

    def forward(
        self,
        embeddings: Tensor,
        batch: Batch,
        tuples: Pairs | Triplets | None = None,
    ) -> LossOutput:
        """Return the loss of ``embeddings`` ``(B, D)``, normalised here.

        0 if no pair has a class. A zero embedding is similar to nothing and has no gradient.
        """
        directions = torch.nn.functional.normalize(embeddings, dim=1)
        # relu, unlike clamp, has no gradient at 0, where zero embeddings are.
        # Autocast makes products 16 bits wide, too few for an exponent of 50.
        similarity = torch.relu((directions @ directions.T).to(embeddings.dtype))
        classes = self._classes(batch)
        if self.mining:
            classes = self._mine(similarity.detach(), classes)
        positive = _log_one_plus_sum(-self.alpha * (similarity - self.base), classes.same)
        negative = _log_one_plus_sum(self.beta * (similarity - self.base), classes.different)
        losses = positive / self.alpha + negative / self.beta
        stats = {
            "positives": classes.same.sum().float(),
            "negatives": classes.different.sum().float(),
        }
        return LossOutput(losses.mean(), stats)

    def _classes(self, batch: Batch) -> Classes:
        own = batch.tuple_id[:, None] == batch.tuple_id[None]
        core = (batch.role == Role.ANCHOR) | (batch.role == Role.NEAR)
        same = own & core[:, None] & core[None]
        different = own & ~same
        if self.geometry is not None:
            near, far = self.geometry(batch)
            same |= near & ~own
            different |= far & ~own
        return Classes(same.fill_diagonal_(False), different.fill_diagonal_(False))

    def _mine(self, similarity: Tensor, classes: Classes) -> Classes:
        """Keep the pairs that are hard compared with the others of their row.

        A row without negatives compares with a similarity of 0, one without positives
        keeps all negatives.
        """
        same, different = classes
        hardest_negative = torch.where(different, similarity, 0).amax(dim=1, keepdim=True)
        hardest_positive = torch.where(same, similarity, torch.inf).amin(dim=1, keepdim=True)
        hardest_positive = torch.where(hardest_positive.isinf(), 0, hardest_positive)
        return Classes(
            same & (similarity < hardest_negative + self.epsilon),
            different & (similarity > hardest_positive - self.epsilon),
        )


def _log_one_plus_sum(exponents: Tensor, chosen: Tensor) -> Tensor:
    """Return log(1 + sum of exp(exponents) over the chosen) of each row, ``(B,)``."""
    exponents = exponents.masked_fill(~chosen, -torch.inf)
    one = torch.nn.functional.pad(exponents, (0, 1), value=0.0)
    return torch.logsumexp(one, dim=1)
