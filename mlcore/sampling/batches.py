"""Batches by step: planned tuples as images and geometry, and their loader."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mlcore.data.images import augment, fits, letterbox
from mlcore.distributed import deal
from mlcore.errors import DataError, WorkerError
from mlcore.options.engine import Augmentation
from mlcore.protocols import Batch, PlaceDataset, Role, SuppliesExtras
from mlcore.sampling.augmentations import apply_augmentations
from mlcore.sampling.planner import BatchPlan, Planner

_MOST_PLANS = 100
"""Largest number of plans tried for one step if no anchor can be read."""

_DEAD_WORKER = re.compile(r"DataLoader worker \(pid(?:\(s\))? (\d+)")


class TrainingBatch(NamedTuple):
    """The data of one optimizer step; with several processes, this one's share of it.

    Attributes:
        images: ``(b, 3, H, W)`` uint8, of this process: all ``B`` where there is only one.
        batch: The geometry of all ``B`` images.
        skipped: Names of this process's images that could not be read and were left out.
        num_letterboxed: Images with bars, because their aspect is not the input's.
        step: The optimizer step, from 0.
        slots: ``(b,)`` int64, the places of ``images`` in the step's plan.
        unreadable: ``(u,)`` int64, the places of this process's unreadable images.
        failure: Why this process has no images, to be shared with the other processes; "" if it
            has images.
        attempt: Which of the step's plans this is; see :meth:`Planner.plan`.
    """

    images: Tensor
    batch: Batch
    skipped: tuple[str, ...]
    num_letterboxed: int
    step: int
    slots: Tensor
    unreadable: Tensor
    failure: str = ""
    attempt: int = 0


class _Fitted(NamedTuple):
    pixels: Tensor
    letterboxed: bool


class TrainingBatches(Dataset[TrainingBatch]):
    """The batch of each step, a function of seed and step, independent of workers.

    Args:
        dataset: Where images come from.
        planner: Chooses the images of each step.
        input_size: Height and width in pixels that images are letterboxed to.
        seed: Of the augmentation.
        augment: Whether to augment images.
        augmentations: Further ones, by name.
        skip_unreadable: Leave out an image that cannot be read (with its whole tuple if it
            is the anchor) instead of stopping.
    """

    def __init__(
        self,
        dataset: PlaceDataset,
        planner: Planner,
        *,
        input_size: tuple[int, int],
        seed: int,
        augment: bool = True,
        augmentations: Sequence[Augmentation] = (),
        skip_unreadable: bool = False,
    ) -> None:
        self.input_size = input_size
        self._dataset = dataset
        self._planner = planner
        self._seed = seed
        self._augment = augment
        self._augmentations = tuple(augmentations)
        self._skip_unreadable = skip_unreadable

    @property
    def steps_per_window(self) -> int | None:
        """Steps that are planned at once, by embeddings; None where all is random."""
        ahead = self._planner.ahead
        return None if ahead is None else ahead.steps_per_window

    def __getitem__(self, step: int) -> TrainingBatch:
        """Return the batch of a step, from 0.

        Where no anchor can be read, another plan of the step takes its place.

        Raises:
            DataError: An image cannot be read, or with ``skip_unreadable`` no anchor of
                many plans.
        """
        batch = self.share(step, 0, 1)
        if batch.failure:
            raise DataError(batch.failure)
        while self.is_lost(batch, []):
            skipped = batch.skipped
            batch = self.share(step, 0, 1, batch.attempt + 1)
            batch = batch._replace(skipped=(*skipped, *batch.skipped))
        return self.without(batch, [])

    def share(self, step: int, rank: int, count: int, attempt: int = 0) -> TrainingBatch:
        """Return the images of one of several processes, and the geometry of all images.

        Images, not tuples, are distributed, in the order of the plan. An image that cannot be
        read becomes a ``failure``, because this process must not stop alone.
        """
        plan = self._planner.plan(step, attempt)
        slots = deal(len(plan.rows), count)[rank]
        try:
            return self._load_slots(plan, step, slots, attempt)
        except DataError as error:
            nothing = self._load_slots(plan, step, slice(0, 0), attempt)
            return nothing._replace(failure=str(error))

    def is_lost(self, share: TrainingBatch, elsewhere: Sequence[int]) -> bool:
        """Return whether unreadable images leave no tuple of a batch; see :meth:`without`.

        Raises:
            DataError: The largest number of plans for the step has been tried.
        """
        unreadable = [*share.unreadable.tolist(), *elsewhere]
        if not unreadable:
            return False
        plan = self._planner.plan(share.step, share.attempt)
        if _kept(plan, unreadable).any():
            return False
        if share.attempt + 1 >= _MOST_PLANS:
            index = self._planner.images.index[plan.rows[unreadable[0]]]
            raise DataError(
                f"none of {_MOST_PLANS} plans of step {share.step} has an anchor that can be "
                f"read; among the unreadable images is {self._dataset.image_name(int(index))}"
            )
        return True

    def without(self, share: TrainingBatch, elsewhere: Sequence[int]) -> TrainingBatch:
        """Return a share without the images that some process could not read.

        If an anchor is unreadable, its whole tuple is removed; tuples are renumbered without
        gaps.

        Args:
            share: From :meth:`share`; not all of its batch :meth:`is_lost`.
            elsewhere: Places of the images that other processes could not read.
        """
        unreadable = [*share.unreadable.tolist(), *elsewhere]
        if not unreadable:
            return share
        plan = self._planner.plan(share.step, share.attempt)
        keep = _kept(plan, unreadable)
        device = share.batch.positions_m.device
        mine = torch.from_numpy(keep).to(device)[share.slots]
        return share._replace(
            images=share.images[mine.to(share.images.device)],
            slots=share.slots[mine],
            batch=self._describe(plan, keep).to(device),
        )

    def describe(
        self, plan: BatchPlan, unreadable: Sequence[int]
    ) -> tuple[Batch, NDArray[np.bool_]]:
        """Return the geometry of a plan without what cannot be read, and which rows remain.

        Args:
            plan: Of this object's planner.
            unreadable: Places of the images that cannot be read.
        """
        keep = _kept(plan, unreadable)
        return self._describe(plan, keep), keep

    def _load_slots(
        self, plan: BatchPlan, step: int, slots: slice, attempt: int
    ) -> TrainingBatch:
        """Return the readable images of some places of a plan, and the geometry of all."""
        rows = plan.rows[slots]
        loaded = [self._load(int(index)) for index in self._planner.images.index[rows]]
        readable = np.array([not isinstance(image, str) for image in loaded], dtype=bool)
        fitted = [image for image in loaded if not isinstance(image, str)]
        places = np.arange(slots.start, slots.stop)
        images = torch.empty((0, 3, *self.input_size), dtype=torch.uint8)
        if fitted:
            images = torch.stack([image.pixels for image in fitted])
            if self._augment:
                images = augment(images, self._seed, step, slots=places[readable])
            images = apply_augmentations(
                images, self._augmentations, self._seed, step, places[readable]
            )
        return TrainingBatch(
            images=images,
            batch=self._describe(plan, np.ones(len(plan.rows), dtype=bool)),
            skipped=tuple(image for image in loaded if isinstance(image, str)),
            num_letterboxed=sum(image.letterboxed for image in fitted),
            step=step,
            slots=_tensor(places[readable]),
            unreadable=_tensor(places[~readable]),
            attempt=attempt,
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
        region = columns.region
        extras: dict[str, Tensor] = {}
        if isinstance(self._dataset, SuppliesExtras):
            supplied = self._dataset.extras(index)
            extras = {name: _tensor(column) for name, column in supplied.items()}
        # Numbered without gaps, even if tuples were left out.
        _, tuple_id = np.unique(plan.tuple_id[keep], return_inverse=True)
        return Batch(
            positions_m=_tensor(columns.positions_m[rows]),
            headings_rad=None if headings is None else _tensor(headings[rows]),
            tuple_id=_tensor(tuple_id),
            role=_tensor(plan.role[keep]),
            place_id=_tensor(self._planner.place_id[rows]),
            index=_tensor(index),
            region=None if region is None else _tensor(region[rows].astype(np.int64)),
            extras=extras,
        )


class TrainingLoader:
    """Serves the batches of steps ``[start_step, num_steps)`` in order.

    Lightning asks a loader that continues in the middle for its state. Ours has none, because
    it is built for the step it starts at.

    Args:
        batches: The batches of all steps.
        start_step: First step to serve.
        num_steps: Steps of the whole run.
        num_workers: Processes that prepare batches; batches do not depend on it.
        rank: Which of several training processes this is.
        count: How many of them there are; with more than one, each gets its share.
    """

    def __init__(
        self,
        batches: TrainingBatches,
        *,
        start_step: int,
        num_steps: int,
        num_workers: int = 0,
        rank: int = 0,
        count: int = 1,
    ) -> None:
        self._batches = batches
        self._start_step = start_step
        self._num_steps = num_steps
        self._num_workers = num_workers
        self._rank = rank
        self._count = count

    def __len__(self) -> int:
        return self._num_steps

    def __iter__(self) -> Iterator[TrainingBatch]:
        for steps in self._windows():
            with dead_workers_reported():
                yield from self._loader(steps)

    def _windows(self) -> Iterator[range]:
        """Yield the steps, cut where batches are planned anew, by embeddings.

        Data-loading processes know what was planned when they were started.
        """
        size = self._batches.steps_per_window or self._num_steps
        start = self._start_step
        while start < self._num_steps:
            stop = min(self._num_steps, (start // size + 1) * size)
            yield range(start, stop)
            start = stop

    def _loader(self, steps: range) -> DataLoader[TrainingBatch]:
        batches = self._batches
        return DataLoader(
            batches if self._count == 1 else _Shares(batches, self._rank, self._count),
            batch_size=None,
            sampler=steps,
            num_workers=self._num_workers,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_leave_signals_to_parent,
            generator=torch.Generator(),  # otherwise it draws from the global one
        )

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the step is in the checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing: the loader was built for the step it starts at."""


class _Shares(Dataset[TrainingBatch]):
    """One process's share of the batch of each step."""

    def __init__(self, batches: TrainingBatches, rank: int, count: int) -> None:
        self._batches = batches
        self._rank = rank
        self._count = count

    def __getitem__(self, step: int) -> TrainingBatch:
        return self._batches.share(step, self._rank, self._count)


@contextmanager
def dead_workers_reported() -> Iterator[None]:
    """Raise one message for a data-loading process that died, in place of torch's.

    Raises:
        WorkerError: One crashed or was killed, usually because memory ran out.
    """
    try:
        yield
    except RuntimeError as error:
        found = _DEAD_WORKER.search(str(error))
        if found is None:
            raise
        reason = str(error.__cause__ or "").partition("\n")[0]
        how = f" ({reason.rstrip('. ')})" if reason else ""
        raise WorkerError(
            f"data-loading process {found[1]} died{how}. Unless something else killed it, the "
            "machine ran out of memory or of /dev/shm: use a smaller "
            "--training.num_workers, or 0"
        ) from error


def _kept(plan: BatchPlan, unreadable: Sequence[int]) -> NDArray[np.bool_]:
    """Return which rows remain: readable ones of tuples whose anchor is readable."""
    keep = np.ones(len(plan.rows), dtype=bool)
    keep[list(unreadable)] = False
    lost = plan.tuple_id[(plan.role == Role.ANCHOR) & ~keep]
    return keep & ~np.isin(plan.tuple_id, lost)


def _tensor(column: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(column))


def _leave_signals_to_parent(_worker: int) -> None:
    # Ctrl-C reaches the whole process group; the run is to finish its step first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
