"""Images as Python programs have them: files, Pillow images, arrays, tensors."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mlcore.data.image_files import find_images
from mlcore.data.images import NAMED_BY_USER, read_image, rgb_image
from mlcore.errors import DataError
from mlcore.retrieval.embedder import ImageSource


class SizedImageSource(ImageSource, Protocol):
    """Images that are all of a source, numbered from 0."""

    def __len__(self) -> int: ...


class ImageList:
    """Files and images in memory, as one source.

    Args:
        images: Paths, or uint8 ``(3, H, W)`` of any sizes.
    """

    def __init__(self, images: Sequence[Path | Tensor]) -> None:
        self._images = tuple(images)

    def __len__(self) -> int:
        return len(self._images)

    def load_image(self, index: int) -> Tensor:
        """Return image ``index`` as uint8 ``(3, H, W)``.

        Raises:
            DataError: A file is missing or cannot be decoded.
        """
        image = self._images[index]
        return image if isinstance(image, Tensor) else read_image(image, remedy=NAMED_BY_USER)

    def image_name(self, index: int) -> str:
        """Return the path of image ``index``, or its number in memory, from 1."""
        image = self._images[index]
        return f"image {index + 1}" if isinstance(image, Tensor) else str(image)


def image_list(images: Any) -> ImageList:
    """Return images in the order in which they are given.

    Args:
        images: The path of a file, or of a folder: all images below it; a Pillow image; a
            uint8 NumPy array ``(H, W, 3)`` or ``(N, H, W, 3)``, RGB; a uint8 tensor
            ``(3, H, W)`` or ``(N, 3, H, W)``; or any iterable of these.

    Raises:
        DataError: A folder holds no image, or an image has another type or shape.
    """
    return ImageList(list(_flat(images)))


def _flat(images: Any) -> Iterator[Path | Tensor]:
    match images:
        case str() | os.PathLike():
            yield from _files(Path(images))
        case Image.Image():
            try:
                yield rgb_image(images)
            except ValueError as error:
                raise DataError(f"a Pillow image cannot be used: {error}") from error
        case Tensor():
            _require_images(images, "a tensor", "(3, H, W) or (N, 3, H, W)", channels=-3)
            yield from images if images.dim() == 4 else (images,)
        case np.ndarray():
            _require_images(images, "an array", "(H, W, 3) or (N, H, W, 3)", channels=-1)
            # A copy: torch takes no array that is read-only or runs backwards (BGR to RGB).
            for image in np.array(images if images.ndim == 4 else images[None], order="C"):
                yield torch.from_numpy(image).permute(2, 0, 1).contiguous()
        case Iterable() if not isinstance(images, bytes | bytearray | memoryview):
            for image in images:
                yield from _flat(image)
        case _:
            raise DataError(
                "images must be paths, Pillow images, NumPy arrays or tensors, got "
                f"{type(images).__name__}"
            )


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    found = find_images(path)
    yield from (Path(found.image_name(row)) for row in range(len(found)))


def _require_images(images: Any, what: str, expected: str, *, channels: int) -> None:
    """Raise DataError unless these are RGB images, with the colours on axis ``channels``."""
    shape, dtype = tuple(images.shape), str(images.dtype).removeprefix("torch.")
    if len(shape) not in (3, 4) or shape[channels] != 3 or 0 in shape[-3:]:
        raise DataError(f"{what} of images must be {expected}, got {shape}")
    if dtype != "uint8":
        raise DataError(f"{what} of images must be uint8, 0 to 255, got {dtype}")
