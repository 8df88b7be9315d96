"""Embeds images of a data set in a given order, within bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mlcore.data.images import letterbox
from mlcore.distributed import deal, exchange, join_rows, num_processes, rank
from mlcore.errors import DataError, FailedElsewhereError, MlcoreError
from mlcore.protocols import Progress, no_progress

if TYPE_CHECKING:
    from mlcore.models.embedding import EmbeddingModel


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """Embeddings of the images that could be read.

    Attributes:
        embeddings: ``(N, D)`` float32.
        rows: ``(N,)`` int64, the row of each in the given index, ascending.
        skipped: Names of the images that could not be read.
    """

    embeddings: NDArray[np.float32]
    rows: NDArray[np.int64]
    skipped: tuple[str, ...]


class ImageSource(Protocol):
    """A source of images: a data set, or files."""

    def load_image(self, index: int) -> Tensor:
        """Return image ``index`` as uint8 ``(3, H, W)``; DataError if it is unreadable."""
        ...

    def image_name(self, index: int) -> str:
        """Return the name of image ``index`` for messages."""
        ...


@dataclass(frozen=True, kw_only=True)
class Embedder:
    """A model and how images are prepared for it.

    Memory beyond the result: a few batches of images and their activations.

    Attributes:
        model: Moved to ``device``; used in evaluation mode and restored afterwards.
        input_size: Height and width in pixels that images are letterboxed to.
        batch_size: Images embedded at once.
        device: Where the model runs.
        num_workers: Processes that read images; 0 reads in this one. Does not affect results.
        skip_unreadable: Skip images that cannot be read, instead of stopping.
        progress: Called with the number of images embedded so far.
    """

    model: EmbeddingModel
    input_size: tuple[int, int]
    batch_size: int = 64
    device: torch.device | str = "cpu"
    num_workers: int = 0
    skip_unreadable: bool = False
    progress: Progress = no_progress

    def __call__(
        self, source: ImageSource, index: NDArray[np.int64], description: str = "embedding"
    ) -> Embedded:
        """Return the embeddings of images ``index`` ``(N,)`` of ``source``.

        Each of several processes embeds a share, and all return the whole.

        Raises:
            DataError: An image cannot be read, or its embedding is not finite.
            FailedElsewhereError: In all processes but the first, which raises the cause.
        """
        bounds = deal(len(index), num_processes())
        mine = bounds[rank()]
        failure: MlcoreError | None = None
        try:
            found = self._embed(source, index, mine, description)
        except MlcoreError as error:
            if num_processes() == 1:
                raise
            failure, found = error, _nothing(self.model.embedding_dim)
        return _joined(found, failure, self.device)

    def _embed(
        self, source: ImageSource, index: NDArray[np.int64], mine: slice, description: str
    ) -> Embedded:
        """Return the embeddings of this process's share of the images."""
        start, total = mine.start, mine.stop - mine.start
        embeddings = np.empty((total, self.model.embedding_dim), dtype=np.float32)
        rows: list[int] = []
        skipped: list[str] = []
        with _evaluating(self.model.to(self.device)), torch.inference_mode():
            for images, kept, unreadable in self._batches(source, index[mine]):
                if kept:
                    batch = self.model(images.to(self.device)).float().cpu().numpy()
                    embeddings[len(rows) : len(rows) + len(kept)] = batch
                rows.extend(start + row for row in kept)
                skipped.extend(unreadable)
                self.progress(description, len(rows) + len(skipped), total)
        embeddings = embeddings[: len(rows)]
        _check_finite(embeddings, rows, source, index)
        return Embedded(
            embeddings=embeddings, rows=np.array(rows, dtype=np.int64), skipped=tuple(skipped)
        )

    def _batches(
        self, source: ImageSource, index: NDArray[np.int64]
    ) -> Iterable[tuple[Tensor, list[int], list[str]]]:
        """Return batches of images, the rows they belong to, and names of unreadable ones."""
        return DataLoader(
            _Images(source, index, self.input_size, self.skip_unreadable),
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            collate_fn=_collate,
            generator=torch.Generator(),  # otherwise it draws from the global one
        )


def _nothing(num_dimensions: int) -> Embedded:
    return Embedded(
        embeddings=np.empty((0, num_dimensions), dtype=np.float32),
        rows=np.empty(0, dtype=np.int64),
        skipped=(),
    )


def _joined(
    mine: Embedded, failure: MlcoreError | None, device: torch.device | str
) -> Embedded:
    """Return the embeddings of all processes, in the order of the images."""
    if num_processes() == 1:
        return mine
    gathered = exchange((failure, mine.rows, mine.skipped))
    for error, _, _ in gathered:
        if error is not None:
            raise error if rank() == 0 else FailedElsewhereError(str(error))
    sizes = [len(rows) for _, rows, _ in gathered]
    embeddings = join_rows(torch.from_numpy(mine.embeddings).to(device), sizes)
    return Embedded(
        embeddings=embeddings.cpu().numpy(),
        rows=np.concatenate([rows for _, rows, _ in gathered]),
        skipped=tuple(name for _, _, names in gathered for name in names),
    )


def evenly_spaced(num_rows: int, num_wanted: int) -> NDArray[np.int64]:
    """Return ``min(num_rows, num_wanted)`` rows, first and last included, evenly spaced."""
    num_wanted = min(num_rows, num_wanted)
    return np.linspace(0, num_rows - 1, num_wanted).round().astype(np.int64)


class _Images(Dataset[tuple[int, "Tensor | str"]]):
    """Rows as letterboxed images, or as the name of one that cannot be read."""

    def __init__(
        self,
        source: ImageSource,
        index: NDArray[np.int64],
        input_size: tuple[int, int],
        skip_unreadable: bool,
    ) -> None:
        self._source = source
        self._index = index
        self._input_size = input_size
        self._skip_unreadable = skip_unreadable

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, row: int) -> tuple[int, Tensor | str]:
        image_index = int(self._index[row])
        try:
            image = self._source.load_image(image_index)
        except DataError:
            if not self._skip_unreadable:
                raise
            return row, self._source.image_name(image_index)
        return row, letterbox(image, *self._input_size)


def _collate(items: list[tuple[int, Tensor | str]]) -> tuple[Tensor, list[int], list[str]]:
    images = [image for _, image in items if isinstance(image, Tensor)]
    kept = [row for row, image in items if isinstance(image, Tensor)]
    unreadable = [name for _, name in items if isinstance(name, str)]
    return torch.stack(images) if images else torch.empty(0), kept, unreadable


@contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Use evaluation mode; afterwards restore the mode of each layer (also frozen ones)."""
    modes = [(layer, layer.training) for layer in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for layer, training in modes:
            layer.training = training


def _check_finite(
    embeddings: NDArray[np.float32],
    rows: list[int],
    source: ImageSource,
    index: NDArray[np.int64],
) -> None:
    bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(bad):
        name = source.image_name(int(index[rows[bad[0]]]))
        raise DataError(
            f"the embeddings of {len(bad)} of {len(rows)} images contain NaN or infinity, "
            f"the first is {name}; the model's weights are invalid"
        )
