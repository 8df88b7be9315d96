"""The rendered images on disk: made once, whole or not at all, and checked when opened."""

from __future__ import annotations

import hashlib
import json
import os
import time
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import DataError
from mlcore.protocols import Progress
from mlcore_streets.camera.drive_renderer import RENDERER_VERSION
from mlcore_streets.config import StreetsConfig
from mlcore_streets.render_processes import render_to_file

Images = NDArray[np.uint8]

_LEFTOVER_S = 3600.0


def cache_key(config: StreetsConfig) -> str:
    """Return what names the images of a configuration made by this renderer."""
    options = {**asdict(config), "num_processes": None, "renderer": RENDERER_VERSION}
    text = json.dumps(options, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class ImageCache:
    """The images of one configuration as ``(N, H, W, 3)`` uint8 in a ``.npy`` file.

    Attributes:
        path: The file; beside it lies a ``.json`` with its checksum.
        shape: What the file must hold.
    """

    path: Path
    shape: tuple[int, int, int, int]

    def map(self) -> Images:
        """Return the images, mapped into memory and unchecked.

        Raises:
            DataError: The file is gone, or is not what was written.
        """
        try:
            images: Images = np.load(self.path, mmap_mode="r")
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"cannot read rendered images {self.path}: {error}") from error
        if images.shape != self.shape or images.dtype != np.uint8:
            raise DataError(
                f"rendered images {self.path} are {images.shape} {images.dtype}, "
                f"not {self.shape} uint8; delete the file to render them again"
            )
        return images

    @property
    def checksum(self) -> int | None:
        """The checksum noted when the images were made; None if there is no note."""
        try:
            return int(json.loads(self._note.read_text(encoding="utf-8"))["crc32"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @property
    def _note(self) -> Path:
        return self.path.with_suffix(".json")

    def is_whole(self) -> bool:
        """Return whether the file is there and holds, bit for bit, what was rendered."""
        checksum = self.checksum
        if checksum is None:
            return False
        try:
            return _checksum(self.map()) == checksum
        except DataError:
            return False

    def build(self, config: StreetsConfig, progress: Progress) -> None:
        """Render the images and put them in place.

        Raises:
            DataError: They cannot be written (the disk is full, say) or rendered.
        """
        temporary = self.path.with_name(f".{self.path.stem}.{os.getpid()}.tmp")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(self.path.parent)
            offset = _reserve(temporary, self.shape)
            render_to_file(config, temporary, offset, self.shape[0], progress)
            checksum = _checksum(np.load(temporary, mmap_mode="r"))
            temporary.replace(self.path)
            note = temporary.with_suffix(".json")
            note.write_text(json.dumps({"crc32": checksum, "shape": self.shape}))
            note.replace(self._note)
        except OSError as error:
            size = np.prod(self.shape) / 1e6
            raise DataError(
                f"cannot write {size:.0f} MB of rendered images to {self.path}: "
                f"{error.strerror or error}; free some space or set XDG_CACHE_HOME"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)


def _reserve(path: Path, shape: tuple[int, ...]) -> int:
    """Write the header, claim the space and return where the first image begins."""
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        offset = file.tell()
        size = offset + int(np.prod(shape))
        if hasattr(os, "posix_fallocate"):
            file.flush()
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    return offset


def _checksum(images: Images) -> int:
    checksum = 0
    for start in range(0, len(images), 256):
        checksum = zlib.crc32(images[start : start + 256].tobytes(), checksum)
    return checksum


def _remove_leftovers(folder: Path) -> None:
    """Remove what a run that was killed left behind."""
    for path in folder.glob(".*.tmp"):
        if time.time() - path.stat().st_mtime > _LEFTOVER_S:
            path.unlink(missing_ok=True)
