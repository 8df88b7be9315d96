"""Folders of images: what is in them, and what the folder names say."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from mlcore.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png")

_SPLITS = ("train", "val", "validation", "test")
_ROLES = {"database": "database", "references": "database", "queries": "queries"}


def image_folders(root: Path) -> Iterator[tuple[PurePosixPath, list[str]]]:
    """Yield each folder below ``root`` that holds images, and their names, sorted.

    Links to folders are followed, each folder once.

    Raises:
        DataError: A name is not valid UTF-8.
    """
    seen: set[tuple[int, int]] = set()
    for folder, below, files in os.walk(root, followlinks=True):
        status = Path(folder).stat()
        identity = (status.st_dev, status.st_ino)
        if identity in seen:
            below.clear()
            continue
        seen.add(identity)
        below.sort()
        names = sorted(name for name in files if name.lower().endswith(SUFFIXES))
        if names:
            _check_encoding(folder, names)
            yield PurePosixPath(Path(folder).relative_to(root).as_posix()), names


def _check_encoding(folder: str, names: list[str]) -> None:
    for text in (folder, *names):
        if not is_utf8(text):
            where = ascii(folder if text is folder else f"{folder}/{text}")
            raise DataError(f"{where}: the name is not valid UTF-8; rename it")


def is_utf8(name: str) -> bool:
    """Return whether a file's name is text, and not bytes that Python had to escape."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def folder_labels(folder: PurePosixPath) -> dict[str, str]:
    """Return split, role and condition as far as the folder names tell.

    ``test/queries_night`` are queries of the split test in condition night.
    """
    labels: dict[str, str] = {}
    for part in folder.parts:
        word, _, condition = part.lower().partition("_")
        if word in _SPLITS and not condition:
            labels.setdefault("split", word)
        elif word in _ROLES:
            labels.setdefault("role", _ROLES[word])
            if condition:
                labels.setdefault("condition", condition)
    return labels
