"""Batches by step: planned tuples as images and geometry, and the loader that serves them."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mlcore.errors import DataError
from mlcore.images import augment, fits, letterbox
from mlcore.protocols import Batch, PlaceDataset, Role, SuppliesExtras
from mlcore.sampling import BatchPlan, TuplePlanner


class TrainingBatch(NamedTuple):
    """What one optimizer step gets.

    Attributes:
        images: ``(B, 3, H, W)`` uint8.
        batch: What is known of them.
        skipped: Names of images that could not be read and were left out.
        num_letterboxed: Images with bars, because their aspect is not the input's.
    """

    images: Tensor
    batch: Batch
    skipped: tuple[str, ...]
    num_letterboxed: int


class _Fitted(NamedTuple):
    pixels: Tensor
    letterboxed: bool


class TrainingBatches(Dataset[TrainingBatch]):
    """The batch of each step, a function of seed and step: workers change nothing.

    Args:
        dataset: Where images come from.
        planner: Which images each step takes.
        input_size: Height and width in pixels that images are letterboxed to.
        seed: Of the augmentation.
        augment: Whether images are varied.
        skip_unreadable: Leave out an image that cannot be read (with its whole tuple if it
            is the anchor) instead of stopping.
    """

    def __init__(
        self,
        dataset: PlaceDataset,
        planner: TuplePlanner,
        *,
        input_size: tuple[int, int],
        seed: int,
        augment: bool = True,
        skip_unreadable: bool = False,
    ) -> None:
        self.input_size = input_size
        self._dataset = dataset
        self._planner = planner
        self._seed = seed
        self._augment = augment
        self._skip_unreadable = skip_unreadable

    def __getitem__(self, step: int) -> TrainingBatch:
        """Return the batch of a step, from 0.

        Raises:
            DataError: An image cannot be read, or with ``skip_unreadable`` none can.
        """
        plan = self._planner.plan(step)
        loaded = [self._load(int(index)) for index in self._planner.images.index[plan.rows]]
        skipped = tuple(image for image in loaded if isinstance(image, str))
        keep = _kept(plan, [not isinstance(image, str) for image in loaded])
        kept = [loaded[row] for row in np.flatnonzero(keep)]
        fitted = [image for image in kept if not isinstance(image, str)]
        if not fitted:
            raise DataError(
                f"no tuple of step {step} has an anchor that can be read; of its "
                f"{len(loaded)} images {len(skipped)} cannot, the first is {skipped[0]}"
            )
        images = torch.stack([image.pixels for image in fitted])
        if self._augment:
            images = augment(images, self._seed, step)
        return TrainingBatch(
            images=images,
            batch=self._describe(plan, keep),
            skipped=skipped,
            num_letterboxed=sum(image.letterboxed for image in fitted),
        )

    def _load(self, index: int) -> _Fitted | str:
        """Return an image at the input size, or the name of one that cannot be read."""
        try:
            image = self._dataset.load_image(index)
        except DataError:
            if not self._skip_unreadable:
                raise
            return self._dataset.image_name(index)
        size = self.input_size
        return _Fitted(letterbox(image, *size), letterboxed=not fits(image, *size))

    def _describe(self, plan: BatchPlan, keep: NDArray[np.bool_]) -> Batch:
        columns, rows = self._planner.images, plan.rows[keep]
        index, headings = columns.index[rows], columns.headings_rad
        extras: dict[str, Tensor] = {}
        if isinstance(self._dataset, SuppliesExtras):
            supplied = self._dataset.extras(index)
            extras = {name: _tensor(column) for name, column in supplied.items()}
        # Numbered without gaps, whatever tuples were left out.
        _, tuple_id = np.unique(plan.tuple_id[keep], return_inverse=True)
        return Batch(
            positions_m=_tensor(columns.positions_m[rows]),
            headings_rad=None if headings is None else _tensor(headings[rows]),
            tuple_id=_tensor(tuple_id),
            role=_tensor(plan.role[keep]),
            place_id=_tensor(self._planner.place_id[rows]),
            index=_tensor(index),
            extras=extras,
        )


class TrainingLoader:
    """Serves the batches of steps ``[start_step, num_steps)`` in order.

    Lightning asks a loader that continues in the middle for its state. Ours has none: the
    step says all, and whoever builds the loader knows it.

    Args:
        batches: What to serve.
        start_step: First step to serve.
        num_steps: Steps of the whole run.
        num_workers: Processes that prepare batches; changes no batch.
    """

    def __init__(
        self, batches: TrainingBatches, *, start_step: int, num_steps: int, num_workers: int = 0
    ) -> None:
        self._num_steps = num_steps
        self._loader = DataLoader(
            batches,
            batch_size=None,
            sampler=range(start_step, num_steps),
            num_workers=num_workers,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_leave_signals_to_parent,
            generator=torch.Generator(),  # else it draws from the global one
        )

    def __len__(self) -> int:
        return self._num_steps

    def __iter__(self) -> Iterator[TrainingBatch]:
        return iter(self._loader)

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the step is in the checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing: the loader was built for the step it starts at."""


def _kept(plan: BatchPlan, readable: Sequence[bool]) -> NDArray[np.bool_]:
    """Return which rows remain: readable ones of tuples whose anchor is readable."""
    keep = np.array(readable)
    lost = plan.tuple_id[(plan.role == Role.ANCHOR) & ~keep]
    return keep & ~np.isin(plan.tuple_id, lost)


def _tensor(column: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(column))


def _leave_signals_to_parent(_worker: int) -> None:
    # Ctrl-C reaches the whole process group; the run is to finish its step first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
