"""Images that are files and belong to no data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlcore.data.image_formats import ImageWalk, image_suffixes
from mlcore.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor


class ImageFiles:
    """Files as a source of images; an image's index is its place in the list.

    Args:
        paths: The files.
        notes: What was left out when they were listed.
        named: Whether the user names each of them, so that none is skipped.
    """

    def __init__(
        self, paths: Sequence[Path], notes: Sequence[str] = (), *, named: bool = False
    ) -> None:
        self._paths = tuple(paths)
        self.notes = tuple(notes)
        self._named = named

    def __len__(self) -> int:
        return len(self._paths)

    def load_image(self, index: int) -> Tensor:
        """Return image ``index`` as uint8 ``(3, H, W)``.

        Raises:
            DataError: It is missing or cannot be decoded.
        """
        from mlcore.data.images import NAMED_BY_USER, SKIPPABLE, read_image

        remedy = NAMED_BY_USER if self._named else SKIPPABLE
        return read_image(self._paths[index], remedy=remedy)

    def image_name(self, index: int) -> str:
        """Return the path of image ``index``."""
        return str(self._paths[index])


def find_images(folder: Path) -> ImageFiles:
    """Return all images in a folder and those below it, in the order of their paths.

    Raises:
        DataError: The folder does not exist, or holds no image.
        UnicodeEncodeError: A name is not UTF-8, so that no index could hold it.
    """
    if not folder.is_dir():
        raise DataError(f"no folder of images at {folder}")
    walk = ImageWalk(folder)
    paths = sorted(folder / below / name for below, names in walk.folders for name in names)
    if not paths:
        endings = ", ".join(sorted(image_suffixes()))
        raise DataError("; ".join([f"no image in {folder} ({endings})", *walk.notes]))
    for path in paths:
        str(path).encode()
    return ImageFiles(paths, walk.notes)
