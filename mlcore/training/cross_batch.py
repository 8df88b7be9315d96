"""Cross-batch memory: embeddings of past batches that the current ones are compared with.

An embedding changes slowly from step to step, so that those of the last batches stand for what
the network would give now, at the cost of their storage alone (Wang, Zhang, Huang, Scott,
Cross-Batch Memory for Embedding Learning, CVPR 2020, sections 3.1 and 3.2). They are constants:
the gradient reaches the current embeddings only. Every process holds the same memory, because
every process has the embeddings of the joint batch.

Shapes: ``B`` current images, ``M`` remembered ones, ``D`` embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mlcore.protocols import Batch, Pairs, Triplets


class Memory(NamedTuple):
    """What is remembered of past batches, the newest batch first.

    Attributes:
        embeddings: ``(M, D)``, detached.
        batch: Their geometry; ``tuple_id`` differs for images of different batches.
    """

    embeddings: Tensor
    batch: Batch

    def __len__(self) -> int:
        return len(self.embeddings)

    def behind(self, embeddings: Tensor, batch: Batch) -> tuple[Tensor, Batch]:
        """Return ``B`` current embeddings and their geometry, followed by those remembered.

        Args:
            embeddings: ``(B, D)``; the gradient of the result reaches them alone.
            batch: Their geometry.
        """
        device = embeddings.device
        remembered = self.batch.to(device)
        num_tuples = int(batch.tuple_id.max()) + 1 if len(batch) else 0
        columns = _columns(remembered)
        columns["tuple_id"] = remembered.tuple_id + num_tuples
        return (
            torch.cat([embeddings, self.embeddings.to(embeddings)]),
            _joined(_columns(batch), columns),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return tensors for a checkpoint."""
        return {"embeddings": self.embeddings, "batch": _columns(self.batch)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Memory:
        """Return the memory that :meth:`state_dict` was called of."""
        return cls(state["embeddings"], Batch(**state["batch"]))


def after_batch(
    memory: Memory | None, embeddings: Tensor, batch: Batch, size: int
) -> Memory | None:
    """Return the memory once a batch is in it too; the oldest images are dropped.

    Args:
        memory: What was remembered before it.
        embeddings: ``(B, D)``, detached, those of the joint batch.
        batch: Their geometry.
        size: Largest ``M``; 0: nothing is remembered.
    """
    if not size:
        return None
    if memory is not None:
        embeddings, batch = memory.behind(embeddings, batch)
    # Rows by number are copied; a slice would keep alive what it leaves out.
    kept = torch.arange(min(size, len(batch)), device=embeddings.device)
    return Memory(embeddings.detach()[kept], batch.take(kept))


def of_current(tuples: Pairs | Triplets | None, num_current: int) -> Pairs | Triplets | None:
    """Return the tuples whose anchor is one of the first ``num_current`` rows.

    Anchors are current images, as in pytorch-metric-learning's ``CrossBatchMemory``; positives
    and negatives may be remembered.
    """
    if tuples is None:
        return None
    if isinstance(tuples, Triplets):
        keep = tuples.anchors < num_current
        return Triplets(*(column[keep] for column in tuples))
    positive = tuples.anchors_of_positives < num_current
    negative = tuples.anchors_of_negatives < num_current
    return Pairs(
        tuples.anchors_of_positives[positive],
        tuples.positives[positive],
        tuples.anchors_of_negatives[negative],
        tuples.negatives[negative],
    )


def _joined(first: Mapping[str, Any], second: Mapping[str, Any]) -> Batch:
    """Return two batches as one; their columns are the same."""
    columns: dict[str, Any] = {
        name: None if column is None else torch.cat([column, second[name]])
        for name, column in first.items()
        if name != "extras"
    }
    extras = {
        name: torch.cat([column, second["extras"][name]])
        for name, column in first["extras"].items()
    }
    return Batch(**columns, extras=extras)


def _columns(batch: Batch) -> dict[str, Any]:
    return {field.name: getattr(batch, field.name) for field in fields(Batch)}
