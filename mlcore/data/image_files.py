"""Images that are files and belong to no data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from mlcore.data.images import read_image
from mlcore.errors import DataError

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"})


class ImageFiles:
    """Files as a source of images; an image's index is its place in the list.

    Args:
        paths: The files.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)

    def __len__(self) -> int:
        return len(self._paths)

    def load_image(self, index: int) -> Tensor:
        """Return image ``index`` as uint8 ``(3, H, W)``.

        Raises:
            DataError: It is missing or cannot be decoded.
        """
        return read_image(self._paths[index])

    def image_name(self, index: int) -> str:
        """Return the path of image ``index``."""
        return str(self._paths[index])


def find_images(folder: Path) -> ImageFiles:
    """Return all images in a folder and those below it, in the order of their paths.

    Raises:
        DataError: There is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise DataError(f"no folder of images at {folder}")
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in _SUFFIXES and path.is_file()
    )
    if not paths:
        raise DataError(f"no image in {folder}: none ends in {', '.join(sorted(_SUFFIXES))}")
    return ImageFiles(paths)
