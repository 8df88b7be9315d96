"""Find images that are in both training and test: the same file, or a copy."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PathOf = Callable[[int], Path | None]

_ENDS_BYTES = 65_536
_MANY = 4
"""More files of one content than this are placeholders or black frames, not copies."""


def shared_files(
    train: NDArray[np.int64], test: NDArray[np.int64], path_of: PathOf
) -> NDArray[np.int64]:
    """Return the test images whose file is that of a training image, or a copy of it.

    Spellings, links and hard links lead to one file by device and inode. Copies are sought
    among files of equal size: the first and last 64 KiB are compared by their hash.

    Args:
        train: Indices of training images.
        test: Indices of test images, none of them in ``train``.
        path_of: Returns the file of an image; None where it has none of its own.
    """
    trained = dict(_stats(train, path_of))
    tested = dict(_stats(test, path_of))
    files = {(stat.st_dev, stat.st_ino) for stat, _ in trained.values()}
    found = {
        image for image, (stat, _) in tested.items() if (stat.st_dev, stat.st_ino) in files
    }
    sizes = {stat.st_size for stat, _ in trained.values()}
    sizes &= {stat.st_size for stat, _ in tested.values()}
    sizes.discard(0)
    contents: dict[bytes, set[int]] = defaultdict(set)
    for image, (stat, path) in (trained | tested).items():
        if stat.st_size in sizes and (content := _content(path)) is not None:
            contents[content].add(image)
    for alike in contents.values():
        if 1 < len(alike) <= _MANY and not alike.isdisjoint(trained):
            found |= alike & tested.keys()
    return np.array(sorted(found), np.int64)


def _stats(
    images: NDArray[np.int64], path_of: PathOf
) -> Iterable[tuple[int, tuple[os.stat_result, Path]]]:
    for image in images.tolist():
        path = path_of(image)
        if path is None:
            continue
        try:
            yield image, (path.stat(), path)
        except (OSError, ValueError):  # missing: told elsewhere
            continue


def _content(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.blake2b(b"%d," % size, digest_size=16)
            digest.update(file.read(_ENDS_BYTES))
            file.seek(max(size - _ENDS_BYTES, 0))
            digest.update(file.read(_ENDS_BYTES))
    except OSError:
        return None
    return digest.digest()
