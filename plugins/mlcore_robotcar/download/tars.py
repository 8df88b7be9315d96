"""Images and tables in tars: found once, remembered by offset and size, read by seeking.

A tar is walked header by header, which reads 512 bytes per image and no pixels. The index is
cached, by the tar's path, size and time of change, so that no tar is walked twice. Nothing is
ever extracted; a tar with links, absolute paths or ``..`` is none of the data set's and is
refused.
"""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import DataError
from mlcore.files import atomic_write, user_cache_dir

MAX_MEMBER_BYTES = 64 * 2**20
"""Of an image; a raw one of Oxford's has about 1 MB."""
_MAX_MEMBERS = 1_000_000
_MAX_HEADER_BYTES = 2**20
_BLOCK = 512
_VERSION = b"2"
IMAGE = re.compile(r"(0|[1-9]\d{0,17})\.png", re.ASCII)
"""Name of an image: its timestamp, in the one way that a number is written."""
_TABLE = re.compile(
    r"(?:.*/)?(?:(?:gps/)?(?:ins|gps|rtk)\.csv|tags\.(?:csv|ya?ml)|[a-z_]+\.timestamps)",
    re.ASCII | re.DOTALL,
)
_MAX_TABLES = 1_000


@dataclass(frozen=True, kw_only=True)
class TarIndex:
    """The images of one camera in a tar, and the tables.

    Attributes:
        path: The tar.
        timestamps: ``(N,)`` int64 microseconds, from the names, ascending.
        offsets: ``(N,)`` int64, where an image's bytes begin.
        sizes: ``(N,)`` int64, how many they are.
        truncated: Where the tar ends too early, in words; empty if it is whole.
        num_others: Files that are no images of the camera, tables among them.
        tables: Offset and size of each table that is whole, by its path in the tar.
    """

    path: Path
    timestamps: NDArray[np.int64]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    truncated: str = ""
    num_others: int = 0
    tables: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def index_tar(path: Path, camera: str, cache_dir: Path | None = None) -> TarIndex:
    """Return where the images are, from the cache if the tar is as it was.

    Args:
        path: The tar.
        camera: Folder of the images: ``stereo/centre``.
        cache_dir: Folder of the cache; None for the user's.

    Raises:
        DataError: It is no tar, or one that is refused.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    words = (os.fsencode(path.resolve()), b"%d" % state.st_size, b"%d" % state.st_mtime_ns)
    key = hashlib.blake2b(b"\0".join((_VERSION, camera.encode(), *words)), digest_size=16)
    kept = (cache_dir or user_cache_dir()) / "robotcar-tars" / f"{key.hexdigest()}.npz"
    found = _recall(kept, path)
    if found is None:
        found = scan_tar(path, camera)
        _remember(kept, found)
    return found


def _recall(kept: Path, path: Path) -> TarIndex | None:
    try:
        with np.load(kept) as arrays:
            return TarIndex(
                path=path,
                timestamps=arrays["rows"][0],
                offsets=arrays["rows"][1],
                sizes=arrays["rows"][2],
                truncated=str(arrays["truncated"]),
                num_others=int(arrays["num_others"]),
                tables={
                    str(name): (int(offset), int(size))
                    for name, (offset, size) in zip(
                        arrays["tables"], arrays["places"], strict=True
                    )
                },
            )
    except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile):
        return None


def _remember(kept: Path, found: TarIndex) -> None:
    buffer = BytesIO()
    rows = np.stack([found.timestamps, found.offsets, found.sizes])
    np.savez(
        buffer, rows=rows, truncated=found.truncated, num_others=found.num_others,
        tables=np.array(list(found.tables), dtype=np.str_),
        places=np.array(list(found.tables.values()), np.int64).reshape(-1, 2),
    )  # fmt: skip
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(kept) as file:
            file.write(buffer.getvalue())
    except OSError:
        return  # a cache that cannot be written costs another walk, nothing else


def scan_tar(path: Path, camera: str) -> TarIndex:
    """Return where the images and the tables are; walks all headers.

    A tar that ends too early yields those that are whole, and says so.

    Raises:
        DataError: It is no tar; a member is a link or a device, or its path is absolute or
            contains ``..``; sizes are impossible.
    """
    size = _whole_size(path)
    met = _Met(path, camera, size)
    truncated = ""
    try:
        with path.open("rb") as file, tarfile.open(fileobj=_Headers(file), mode="r:") as tar:  # type: ignore[call-overload]
            for count, member in enumerate(_members(tar), start=1):
                met.take(member, count)
            file.seek(met.end)
            if any(file.read(_BLOCK)):  # tarfile takes a damaged header for the end
                truncated = f"what follows after {met} is not a header"
    except (DataError, MemoryError, OSError):
        raise
    except Exception as error:
        # tarfile raises nearly anything on damaged headers.
        if not met.end:
            raise DataError(
                f"{path} is not a tar archive: {error}; download it again"
            ) from error
        truncated = f"a header after {met} is unreadable ({error})"
    if not truncated and size < met.end + _BLOCK:
        truncated = f"it has {size:,} bytes but needs at least {met.end + 2 * _BLOCK:,}"
    stamps = np.array(sorted(met.rows), dtype=np.int64)
    places = np.array([met.rows[stamp] for stamp in stamps.tolist()], np.int64).reshape(-1, 2)
    return TarIndex(
        path=path,
        timestamps=stamps,
        offsets=np.ascontiguousarray(places[:, 0]),
        sizes=np.ascontiguousarray(places[:, 1]),
        truncated=truncated,
        num_others=met.num_others,
        tables=met.tables,
    )


class _Met:
    """What a walk through a tar has met so far; what is cut off is counted, not kept."""

    def __init__(self, path: Path, camera: str, size: int) -> None:
        self._path, self._camera, self._size = path, camera, size
        self.rows: dict[int, tuple[int, int]] = {}
        self.tables: dict[str, tuple[int, int]] = {}
        self.num_others = 0
        self.end = 0

    def __str__(self) -> str:
        tables = f" and {len(self.tables)} tables" if self.tables else ""
        return f"{len(self.rows)} images{tables}"

    def take(self, member: tarfile.TarInfo, count: int) -> None:
        _refuse(self._path, member, count)
        if member.isdir():
            self.end = max(self.end, member.offset_data)
            return
        self.end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
        stamp = _stamp(member.name, self._camera)
        self.num_others += stamp is None
        if member.offset_data + member.size > self._size:
            return
        if stamp is not None:
            self.rows[stamp] = (member.offset_data, member.size)
        elif _TABLE.fullmatch(member.name) and len(self.tables) < _MAX_TABLES:
            self.tables[member.name] = (member.offset_data, member.size)


def read_member(path: Path, offset: int, size: int) -> bytes:
    """Return ``size`` bytes of a tar from ``offset`` on.

    Raises:
        DataError: They are not there.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(size)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(data) != size:
        raise DataError(f"{path} ends within a file at byte {offset}; download it again")
    return data


def _whole_size(path: Path) -> int:
    """Return the size of a file that may be a tar."""
    try:
        with path.open("rb") as file:
            head = file.read(_BLOCK)
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    if not head:
        raise DataError(f"{path} is empty; download it again")
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"<":
        raise DataError(
            f"{path} is a web page, such as a login or an error; log in and download the tar"
        )
    return size


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield members, forgetting each: tarfile would keep them all."""
    while (member := tar.next()) is not None:
        yield member
        tar.members.clear()  # type: ignore[attr-defined]


def _refuse(path: Path, member: tarfile.TarInfo, count: int) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or "\\" in member.name:
        raise DataError(
            f"{path}: member {member.name[:200]!r} leads out of the tar's folder; no tar of "
            "the data set has such a path: download it from the data set's page"
        )
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise DataError(
            f"{path}: member {member.name[:200]!r} is a link, a device or sparse; the data "
            "set's tars hold files and folders only: download it from the data set's page"
        )
    if not 0 <= member.size <= MAX_MEMBER_BYTES or count > _MAX_MEMBERS:
        raise DataError(
            f"{path}: member {count}, {member.name[:200]!r}, has {member.size:,} bytes; no "
            "tar of the data set is like this: download it again"
        )


def _stamp(name: str, camera: str) -> int | None:
    """Return the timestamp that a member is the image of, None if it is something else."""
    folder, _, last = name.rpartition("/")
    found = IMAGE.fullmatch(last)
    if found is None or not f"/{folder}".endswith(f"/{camera}"):
        return None
    return int(found[1])


class _Headers:
    """A file that hands out no more at once than headers need, whatever they declare."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header declares {size:,} bytes")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()
