"""Spec files of data sets as bytes: read within a limit, described if of another format."""

from __future__ import annotations

import os
from pathlib import Path

from mlcore.errors import DataError

MAX_BYTES = 128 * 2**20
"""Of a spec file, and of what it inflates to; the largest of Pittsburgh inflate to 20 MB."""

_KINDS = (
    (b"\x89HDF\r\n\x1a\n", "HDF5, MATLAB's v7.3; save it again in MATLAB with save -v7"),
    (b"MATLAB 7.3", "HDF5, MATLAB's v7.3; save it again in MATLAB with save -v7"),
    (b"MATLAB 5.0", "its header is truncated or damaged; download it again"),
    (b"<", "a web page, such as a login or an error; download the file itself"),
    (b"version https://git-lfs", "a pointer of Git LFS; run 'git lfs pull'"),
    (b"PK\x03\x04", "a zip archive; if it is an .npz, name it so, or else extract it"),
    (b"\x1f\x8b", "gzip; extract it"),
)


def read_bounded(path: Path) -> bytes:
    """Return the bytes of a spec file.

    Raises:
        DataError: It cannot be read, or is larger than any spec.
    """
    try:
        with path.open("rb") as file:
            # At most the size of the file: read() allocates as much as it is asked for.
            size = os.fstat(file.fileno()).st_size
            data = file.read(min(size, MAX_BYTES) + 1)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(data) > MAX_BYTES:
        raise DataError(
            f"{path} has more than {MAX_BYTES:,} bytes, too many for a spec; save dbStruct "
            "alone, without images or features"
        )
    return data


def describe_contents(head: bytes) -> str:
    """Describe a file of another kind by its first bytes, and say how to fix it."""
    if not head:
        return "it is empty; download it again"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for magic, words in _KINDS:
        if head.startswith(magic) or text.startswith(magic):
            return f"it is {words}" if not words.startswith("its") else words
    return f"it starts with {head[:16]!r}; MATLAB's save -v7 writes v5 files"
