"""Which files are images, and how they are opened: only in listed formats.

Pillow picks a decoder by content and has one that starts Ghostscript; a file named ``.jpg``
must not be able to choose it.
"""

from __future__ import annotations

import os
import stat
import struct
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

from PIL import Image

_SUFFIXES = {
    "AVIF": (".avif",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "JPEG2000": (".jp2", ".j2k", ".jpx"),
    "PNG": (".png",),
    "PPM": (".ppm", ".pgm", ".pnm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
_HEIF = (".heic", ".heif", ".hif")
_FOREIGN = frozenset(
    [
        ".heic",
        ".heif",
        ".hif",
        ".avif",
        ".jxl",
        ".dng",
        ".cr2",
        ".cr3",
        ".nef",
        ".arw",
        ".raf",
        ".orf",
        ".rw2",
        ".pef",
        ".srw",
        ".psd",
        ".exr",
        ".hdr",
        ".svg",
        ".eps",
        ".ico",
        ".tga",
    ]
)
"""Images that are not read, or only with an extra: they are counted and reported."""

_SYSTEM_FOLDERS = frozenset({"@eadir", "#recycle", "$recycle.bin", "__macosx", "lost+found"})
"""Thumbnails and deleted files of network storage and other systems, in lower case."""

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The operation that undoes each orientation of EXIF 2.32, section 4.6.4."""

DAMAGED_EXIF = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    struct.error,
    RecursionError,
    Image.DecompressionBombError,
)
"""What Pillow raises for EXIF blocks that do not follow the standard, or hardly."""


@cache
def formats() -> tuple[str, ...]:
    """Return the names of the formats that are read; HEIF needs ``pillow-heif``."""
    Image.init()
    known = [name for name in _SUFFIXES if name in Image.OPEN]
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return tuple(known)
    register_heif_opener()
    return (*known, "HEIF")


@cache
def image_suffixes() -> frozenset[str]:
    """Return the endings of the files that are read, in lower case."""
    heif = _HEIF if "HEIF" in formats() else ()
    return frozenset((*heif, *(end for name in formats() for end in _SUFFIXES.get(name, ()))))


def open_image(path: Path) -> Image.Image:
    """Open an image without decoding it, in one of :func:`formats` only.

    Raises:
        PIL.UnidentifiedImageError: It is in none of these.
        OSError: It cannot be read. Damaged files raise nearly anything.
    """
    # A pipe named .jpg would be waited for without end.
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("it is a folder, a pipe or a device, not a file")
    return Image.open(path, formats=formats())


def upright(image: Image.Image) -> Image.Image:
    """Return the image rotated by its EXIF orientation.

    No other tag is read or written, so that an invalid tag cannot make an image unreadable.
    """
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except DAMAGED_EXIF:
        return image
    method = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)


class ImageWalk:
    """Walks the folders below a root, and records what was left out.

    Hidden folders and files, and folders in which systems keep thumbnails and deleted files,
    are left out. Links to folders are followed, each folder once.

    Args:
        root: Folder to walk.

    Attributes:
        folders: Each folder that holds images, relative to the root, and their sorted names.
    """

    def __init__(self, root: Path) -> None:
        self._foreign: Counter[str] = Counter()
        self._read: Counter[str] = Counter()
        self._hidden: list[str] = []
        self.folders = list(self._walk(root))

    @property
    def kinds(self) -> str:
        """How many images of each ending there are, as ".jpg 12, .webp 3"."""
        return ", ".join(f"{suffix} {count}" for suffix, count in sorted(self._read.items()))

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user on what was left out."""
        notes = []
        for suffix, count in sorted(self._foreign.items()):
            remedy = (
                "install mlcore[heic] to read them" if suffix in _HEIF else "convert them first"
            )
            notes.append(f"{count} {suffix} files cannot be read and are left out; {remedy}")
        if self._hidden:
            shown = ", ".join(self._hidden[:3]) + (", ..." if len(self._hidden) > 3 else "")
            notes.append(
                f"{len(self._hidden)} hidden or system files and folders are left out: {shown}"
            )
        return tuple(notes)

    def _walk(self, root: Path) -> Iterator[tuple[PurePosixPath, list[str]]]:
        seen: set[tuple[int, int]] = set()
        for folder, below, files in os.walk(root, followlinks=True):
            status = Path(folder).stat()
            identity = (status.st_dev, status.st_ino)
            relative = PurePosixPath(Path(folder).relative_to(root).as_posix())
            if identity in seen:
                below.clear()
                continue
            seen.add(identity)
            self._hidden += [str(relative / name) for name in sorted(below) if _is_hidden(name)]
            below[:] = sorted(name for name in below if not _is_hidden(name))
            names = []
            for name in sorted(files):
                suffix = PurePosixPath(name).suffix.lower()
                if suffix in image_suffixes() and name.startswith("."):
                    self._hidden.append(str(relative / name))
                elif suffix in image_suffixes():
                    names.append(name)
                    self._read[suffix] += 1
                elif suffix in _FOREIGN and not name.startswith("."):
                    self._foreign[suffix] += 1
            if names:
                yield relative, names


def _is_hidden(folder: str) -> bool:
    return folder.startswith(".") or folder.lower() in _SYSTEM_FOLDERS
