"""PML's losses and miners as mlcore's: the only place where the two meet."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Literal

import torch
from pytorch_metric_learning import losses, miners
from torch import Tensor, nn

from mlcore.errors import ConfigError
from mlcore.geometry import NearFar
from mlcore.protocols import Batch, LossOutput, Pairs, Triplets

NO_TUPLES = "the engine gives a miner to every loss that takes mined tuples"


def make(module: ModuleType, name: str, arguments: dict[str, Any]) -> Any:
    """Return an object of PML's class ``name``.

    Raises:
        ConfigError: PML refuses the arguments.
    """
    try:
        return getattr(module, name)(**arguments)
    except (ValueError, AssertionError) as error:
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise ConfigError(
            f"pytorch-metric-learning's {name} does not accept {given}: {str(error).strip()}"
        ) from error


class PmlTupleLoss(nn.Module):
    """A PML loss of mined pairs or triplets.

    Args:
        name: Class in ``pytorch_metric_learning.losses``.
        arguments: Its keyword arguments.
    """

    def __init__(self, name: str, arguments: dict[str, Any]) -> None:
        super().__init__()
        self.loss = make(losses, name, arguments)

    def forward(
        self,
        embeddings: Tensor,
        batch: Batch,
        tuples: Pairs | Triplets | None = None,
    ) -> LossOutput:
        """Return the loss of ``tuples`` among ``embeddings`` ``(B, D)``."""
        assert tuples is not None, NO_TUPLES
        return LossOutput(self.loss(embeddings, indices_tuple=tuples), counts(tuples))


class PmlAnchorLoss(nn.Module):
    """A PML loss that knows pairs by class labels only, computed for one anchor at a time.

    Labels cannot describe mined pairs, but PML also compares embeddings with a separate set
    of references: here one anchor with its own positives, labelled 1 like itself, and its
    own negatives, labelled 0. Where pairs come from labels, the result is PML's.

    Args:
        name: Class in ``pytorch_metric_learning.losses``.
        arguments: Its keyword arguments.
        mean_over: What PML averages over: anchors that have a positive, or positive pairs.
    """

    def __init__(
        self,
        name: str,
        arguments: dict[str, Any],
        mean_over: Literal["anchors", "positives"],
    ) -> None:
        super().__init__()
        self.loss = make(losses, name, arguments)
        self.mean_over = mean_over

    def forward(
        self,
        embeddings: Tensor,
        batch: Batch,
        tuples: Pairs | Triplets | None = None,
    ) -> LossOutput:
        """Return the loss of ``tuples`` among ``embeddings`` ``(B, D)``; 0 for none."""
        assert isinstance(tuples, Pairs), NO_TUPLES
        total, weight = embeddings.sum() * 0, 0
        for anchor in torch.unique(tuples.anchors_of_positives).tolist():
            positives = tuples.positives[tuples.anchors_of_positives == anchor]
            negatives = tuples.negatives[tuples.anchors_of_negatives == anchor]
            own_weight = len(positives) if self.mean_over == "positives" else 1
            total = total + own_weight * self._of(embeddings, anchor, positives, negatives)
            weight += own_weight
        return LossOutput(total / max(weight, 1), counts(tuples))

    def _of(
        self, embeddings: Tensor, anchor: int, positives: Tensor, negatives: Tensor
    ) -> Tensor:
        # The anchor is there twice, for PML's NCA calls a single embedding too few; the mean
        # of both is that of one.
        loss: Tensor = self.loss(
            embeddings[[anchor, anchor]],
            positives.new_ones(2),
            ref_emb=embeddings[torch.cat([positives, negatives])],
            ref_labels=torch.cat([torch.ones_like(positives), torch.zeros_like(negatives)]),
        )
        return loss


class PmlPlaceLoss(nn.Module):
    """A PML loss whose classes are places; its weights, if any, are trained.

    Args:
        name: Class in ``pytorch_metric_learning.losses``.
        arguments: Its keyword arguments.
        seed: Seed of the weights; the global generator is left alone.
    """

    def __init__(self, name: str, arguments: dict[str, Any], seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.loss = make(losses, name, arguments)

    def forward(
        self,
        embeddings: Tensor,
        batch: Batch,
        tuples: Pairs | Triplets | None = None,
    ) -> LossOutput:
        """Return the loss of ``embeddings`` ``(B, D)`` with their places as classes."""
        return LossOutput(self.loss(embeddings, batch.place_id))


def counts(tuples: Pairs | Triplets) -> dict[str, float]:
    """Return how many tuples there are, for the stats."""
    if isinstance(tuples, Triplets):
        return {"triplets": len(tuples.anchors)}
    return {"positives": len(tuples.positives), "negatives": len(tuples.negatives)}


class PmlMiner:
    """A PML miner that chooses among near and far images.

    PML's miners take class labels, and no labels describe nearness: it is not transitive.
    But PML can mine anchors in a separate set of references, so that one anchor at a time
    is mined among its own near images, labelled 1 like itself, and far images, labelled 0.
    That is exact for every miner that treats anchors one by one, uses nothing but PML's
    public interface, and needs memory for one anchor only, at one call for each image of
    the batch.

    Args:
        name: Class in ``pytorch_metric_learning.miners``.
        arguments: Its keyword arguments.
        relation: What is near and what is far.
        produces: ``Pairs`` or ``Triplets``, as the miner of that name makes.
        seed: Seed for a miner that draws at random: what it draws is a function of the seed
            and of the batch's images.
    """

    def __init__(
        self,
        name: str,
        arguments: dict[str, Any],
        relation: NearFar,
        produces: type[Pairs | Triplets],
        seed: int,
    ) -> None:
        self._miner = make(miners, name, arguments)
        self._relation = relation
        self._produces = produces
        self._seed = seed

    def __call__(self, embeddings: Tensor, batch: Batch) -> Pairs | Triplets:
        """Return the tuples chosen for all anchors, ordered by anchor."""
        near, far = self._relation(batch)
        none = torch.zeros(0, dtype=torch.int64, device=embeddings.device)
        anchors = (near.any(dim=1) | far.any(dim=1)).nonzero()[:, 0].tolist()
        gpus = [embeddings.device] if embeddings.is_cuda else []
        with torch.random.fork_rng(devices=gpus):
            torch.manual_seed((self._seed * 1_000_003 + int(batch.index.sum())) % 2**63)
            mined = [
                tuple(none for _ in self._produces._fields),
                *(self._mine(embeddings, row, near[row], far[row]) for row in anchors),
            ]
        return self._produces(*(torch.cat(column) for column in zip(*mined, strict=True)))

    def _mine(
        self, embeddings: Tensor, anchor: int, near: Tensor, far: Tensor
    ) -> tuple[Tensor, ...]:
        """Return the tuples of one anchor as rows of the batch."""
        candidates = (near | far).nonzero()[:, 0]
        mined = self._miner(
            embeddings[anchor : anchor + 1],
            torch.ones(1, dtype=torch.int64, device=embeddings.device),
            embeddings[candidates],
            near[candidates].long(),
        )
        return tuple(
            torch.full_like(column, anchor)
            if field.startswith("anchors")
            else candidates[column]
            for field, column in zip(self._produces._fields, mined, strict=True)
        )
