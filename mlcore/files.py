"""Write files atomically, and find the cache folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def user_cache_dir() -> Path:
    """Return the user's cache folder for mlcore, by the system's convention."""
    from platformdirs import user_cache_path

    return user_cache_path("mlcore", appauthor=False)


@contextmanager
def atomic_write(path: Path, *, flush: bool = True) -> Iterator[IO[bytes]]:
    """Write a file under a temporary name, flush it to disk, then rename it into place.

    ``path`` always has either the old content or the new, never a part.

    Args:
        path: The file.
        flush: False leaves flushing to the system, for thousands of small files: a kill still
            leaves no partial file, but a power cut may.
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
        if isinstance(error, OSError) and error.errno is None:  # numpy's, of a full disk
            raise OSError(f"{path}: {error}; is the disk full?") from error
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
            error.filename = str(path)  # the error of a full disk does not name the file
        raise


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a text, a line for each, as :func:`atomic_write` does."""
    with atomic_write(path) as file:
        file.writelines(f"{line}\n".encode() for line in lines)
