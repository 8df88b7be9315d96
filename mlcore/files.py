"""Files: written so that no kill or full disk leaves half of one, and where caches are."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def user_cache_dir() -> Path:
    """Return the user's folder for what mlcore can make again, by the system's convention."""
    from platformdirs import user_cache_path

    return user_cache_path("mlcore", appauthor=False)


@contextmanager
def atomic_write(path: Path, *, flush: bool = True) -> Iterator[IO[bytes]]:
    """Write a file under a temporary name, flush it to disk, then rename it into place.

    Whatever happens, ``path`` holds the old content or the new, never a part.

    Args:
        path: The file.
        flush: False leaves flushing to the system, for thousands of small files: a kill still
            leaves no part of one, a power cut may.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            if flush:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
            error.filename = str(path)  # a write to a full disk names no file by itself
        raise


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a text, a line for each, as :func:`atomic_write` does."""
    with atomic_write(path) as file:
        file.writelines(f"{line}\n".encode() for line in lines)
