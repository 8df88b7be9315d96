"""What flows between the engine and its plugins, and what each part must be able to do.

Importing this module imports neither torch nor numpy, so that a plugin can be listed
without them.

Shapes: ``B`` images in a batch, ``D`` embedding dimensions, ``N`` images in a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from mlcore.protocols.datasets import (
    HasCoordinates,
    HasImageFiles,
    PlaceDataset,
    PlaceTable,
    Progress,
    Split,
    SuppliesExtras,
    no_progress,
)
from mlcore.protocols.influence import (
    DeviceCode,
    DeviceInfluenceFunction,
    HeadingInfluenceFunction,
    InfluenceFunction,
)
from mlcore.protocols.reranking import Reranker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch
    from torch import Tensor
    from torch.nn import Parameter

__all__ = [
    "Batch",
    "DeviceCode",
    "DeviceInfluenceFunction",
    "FeatureShape",
    "Features",
    "HasCoordinates",
    "HasImageFiles",
    "HeadingInfluenceFunction",
    "InfluenceFunction",
    "Loss",
    "LossOutput",
    "Miner",
    "Pairs",
    "PlaceDataset",
    "PlaceTable",
    "ProcessGroup",
    "Progress",
    "Reranker",
    "Role",
    "RowwiseLoss",
    "SharedLoss",
    "Split",
    "SuppliesExtras",
    "Triplets",
    "no_progress",
]


class Role(IntEnum):
    """The part an image plays in its tuple (values of ``Batch.role``)."""

    ANCHOR = 0
    NEAR = 1
    FAR = 2
    OTHER_FAR = 3


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Everything a loss or miner may know of a batch of images besides their embeddings.

    Attributes:
        positions_m: ``(B, 2)`` or ``(B, 3)`` float64, metres, in one frame per region. Centre
            in float64 before any cast to float32.
        headings_rad: ``(B,)`` float64, clockwise from north in (-pi, pi]; None where the
            data set has none.
        tuple_id: ``(B,)`` int64, the tuple each image was drawn for, from 0.
        role: ``(B,)`` int64, values of :class:`Role`.
        place_id: ``(B,)`` int64 in ``[0, num_places)``, the cell of a global grid over the
            training positions: the class label of proxies and classifiers.
        index: ``(B,)`` int64, the data set's image index.
        region: ``(B,)`` int64 codes, None for one region; images of different regions are
            infinitely far apart (:func:`mlcore.geometry.between_m` knows this).
        extras: Further ``(B, ...)`` tensors that a data set supplies, by name.
    """

    positions_m: Tensor
    headings_rad: Tensor | None
    tuple_id: Tensor
    role: Tensor
    place_id: Tensor
    index: Tensor
    region: Tensor | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.positions_m.shape[0])

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch with every tensor on ``device``; nothing else changes."""
        return self._each(lambda column: column.to(device))

    def take(self, rows: Tensor | slice) -> Batch:
        """Return the rows ``rows`` (int64 or bool tensor, or slice) as a batch."""
        return self._each(lambda column: column[rows])

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory (torch's data loader calls this)."""
        return self._each(lambda column: column.pin_memory())

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return Batch(
            positions_m=change(self.positions_m),
            headings_rad=None if self.headings_rad is None else change(self.headings_rad),
            tuple_id=change(self.tuple_id),
            role=change(self.role),
            place_id=change(self.place_id),
            index=change(self.index),
            region=None if self.region is None else change(self.region),
            extras={name: change(column) for name, column in self.extras.items()},
        )


class Pairs(NamedTuple):
    """Mined pairs as rows of the batch, int64; passes as PML's 4-tuple ``indices_tuple``.

    ``anchors_of_positives[k]`` and ``positives[k]`` are one positive pair, likewise the
    negatives. A pair is ordered: both orders are listed if both are meant.
    """

    anchors_of_positives: Tensor
    positives: Tensor
    anchors_of_negatives: Tensor
    negatives: Tensor


class Triplets(NamedTuple):
    """Mined triplets as rows of the batch, int64 ``(K,)`` each; PML's 3-tuple form."""

    anchors: Tensor
    positives: Tensor
    negatives: Tensor


class LossOutput(NamedTuple):
    """A loss value and what else is worth logging.

    Attributes:
        loss: Scalar tensor, differentiable with respect to the embeddings.
        stats: Numbers (or one-element tensors, detached) for ``metrics.jsonl``, and short
            strings that name a choice the loss made (an implementation, say).
    """

    loss: Tensor
    stats: Mapping[str, Tensor | float | str] = {}


class Features(NamedTuple):
    """What a backbone makes of a batch of images.

    Attributes:
        maps: ``(B, C, h, w)``, local features.
        token: ``(B, C)``, the class token of a transformer; None where there is none.
    """

    maps: Tensor
    token: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class FeatureShape:
    """The shape of a backbone's features, for a pooling to be built.

    Attributes:
        num_channels: ``C``.
        has_token: Whether there is a class token.
        height: ``h``; 0 unless the pooling's factory needs the size.
        width: ``w``; 0 likewise.
    """

    num_channels: int = 0
    has_token: bool = False
    height: int = 0
    width: int = 0


@runtime_checkable
class Loss(Protocol):
    """A loss: in practice a ``torch.nn.Module``, whose parameters are trained too.

    It keeps no mutable statistics. A loss may also define
    ``forward_rows(embeddings, batch, rows)``, see :class:`RowwiseLoss`.
    """

    def __call__(
        self, embeddings: Tensor, batch: Batch, tuples: Pairs | Triplets | None = None
    ) -> LossOutput:
        """Return the loss of ``embeddings`` ``(B, D)``; ``tuples`` are a miner's, if any.

        Must return a finite value with a finite gradient for every batch, except as the
        factory's ``limits`` declare.
        """
        ...

    def parameters(self) -> Iterator[Parameter]:
        """Return the loss's own trainable parameters (none for most)."""
        ...


@runtime_checkable
class RowwiseLoss(Loss, Protocol):
    """A loss that can compute its share of a joint batch, for several processes.

    A loss without ``forward_rows`` is computed whole on every process: right as well,
    only slower. One that needs fewer operations where processes talk to each other is a
    :class:`SharedLoss`.
    """

    def forward_rows(self, embeddings: Tensor, batch: Batch, rows: slice) -> LossOutput:
        """Return the part of the loss that belongs to ``rows`` of the joint batch.

        ``embeddings`` and ``batch`` are the whole joint batch; the parts over slices that
        partition it add up to ``self(embeddings, batch).loss``, gradients likewise.
        """
        ...


class ProcessGroup(Protocol):
    """The processes of a joint batch, for a loss that they compute together.

    All processes must call the same methods in the same order, with tensors of the same
    shapes and dtypes.

    Attributes:
        rank: This process's number, from 0.
        count: How many there are.
    """

    @property
    def rank(self) -> int: ...
    @property
    def count(self) -> int: ...

    def add_up(self, values: Tensor) -> Tensor:
        """Return the sum over processes, the same to the last bit in each; no gradient."""
        ...

    def largest(self, values: Tensor) -> Tensor:
        """Return the elementwise maximum over processes; no gradient."""
        ...


@runtime_checkable
class SharedLoss(Loss, Protocol):
    """A loss that several processes compute together, each a part of the work."""

    def forward_shared(
        self, embeddings: Tensor, batch: Batch, group: ProcessGroup
    ) -> LossOutput | None:
        """Return the whole loss of the joint batch, and a part of its gradient.

        ``embeddings`` and ``batch`` are the whole joint batch, the same in every process, and
        so are the returned loss and stats. The gradients (by the embeddings and by the loss's
        own parameters) of all processes add up to that of ``self(embeddings, batch).loss``.
        Backward may talk to the other processes too. None, in all processes alike, where
        ``forward_rows`` (or, without it, the whole loss in every process) takes less time.
        """
        ...


@runtime_checkable
class Miner(Protocol):
    """Picks pairs or triplets of a batch for a loss that takes them."""

    def __call__(self, embeddings: Tensor, batch: Batch) -> Pairs | Triplets:
        """Return tuples as int64 rows of the batch; empty tensors where there are none.

        ``embeddings`` is ``(B, D)``, detached.
        """
        ...
