"""PML's losses and miners as mlcore's: the only place where the two meet."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_metric_learning import losses, miners
from torch import Tensor, nn

from mlcore.errors import ConfigError
from mlcore.factories import BuildContext
from mlcore.geometry import NearFar
from mlcore.protocols import Batch, LossOutput, Pairs, Triplets


class PmlTupleLoss(nn.Module):
    """A PML loss of mined pairs or triplets.

    Args:
        name: Class in ``pytorch_metric_learning.losses``.
        arguments: Its keyword arguments.
    """

    def __init__(self, name: str, arguments: dict[str, Any]) -> None:
        super().__init__()
        self.loss = getattr(losses, name)(**arguments)

    def forward(
        self,
        embeddings: Tensor,
        batch: Batch,  # noqa: ARG002
        tuples: Pairs | Triplets | None = None,
    ) -> LossOutput:
        """Return the loss of ``tuples`` among ``embeddings`` ``(B, D)``."""
        assert tuples is not None, "the engine builds no loss that wants a miner without one"
        loss = self.loss(embeddings, indices_tuple=tuples)
        if isinstance(tuples, Triplets):
            return LossOutput(loss, {"triplets": len(tuples.anchors)})
        counts = {"positives": len(tuples.positives), "negatives": len(tuples.negatives)}
        return LossOutput(loss, counts)


class PmlPlaceLoss(nn.Module):
    """A PML loss with weights for each place; they are its parameters and are trained.

    Args:
        name: Class in ``pytorch_metric_learning.losses``.
        arguments: Its keyword arguments, besides number of classes and dimension.
        context: Knows these, and the seed of the weights.

    Raises:
        ConfigError: The context does not know the number of places.
    """

    def __init__(self, name: str, arguments: dict[str, Any], context: BuildContext) -> None:
        super().__init__()
        if context.num_places < 1 or context.embedding_dim < 1:
            raise ConfigError(
                f"{name} needs a weight for each place, but there are {context.num_places} "
                f"places of {context.embedding_dim} dimensions"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(context.seed)
            self.loss = getattr(losses, name)(
                num_classes=context.num_places,
                embedding_size=context.embedding_dim,
                **arguments,
            )

    def forward(
        self, embeddings: Tensor, batch: Batch, tuples: Pairs | Triplets | None = None
    ) -> LossOutput:
        """Return the loss of ``embeddings`` ``(B, D)`` with their places as classes."""
        assert tuples is None, "a loss with weights for each place takes no tuples"
        return LossOutput(self.loss(embeddings, batch.place_id))


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
    """

    def __init__(
        self,
        name: str,
        arguments: dict[str, Any],
        relation: NearFar,
        produces: type[Pairs | Triplets],
    ) -> None:
        self._miner = getattr(miners, name)(**arguments)
        self._relation = relation
        self._produces = produces

    def __call__(self, embeddings: Tensor, batch: Batch) -> Pairs | Triplets:
        """Return the tuples chosen for all anchors, ordered by anchor."""
        near, far = self._relation(batch)
        none = torch.zeros(0, dtype=torch.int64, device=embeddings.device)
        anchors = (near.any(dim=1) | far.any(dim=1)).nonzero()[:, 0].tolist()
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
