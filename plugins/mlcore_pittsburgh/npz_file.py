"""``.npz`` files of plain arrays, read within bounds and without unpickling anything."""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mlcore.data import MAX_BYTES, describe_contents, read_bounded
from mlcore.errors import DataError

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_REMEDY = "write the file again"


def read_npz(path: Path) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of an ``.npz`` file by name.

    Raises:
        DataError: It is no such file, damaged, too large, or has pickled objects in it.
    """
    data = read_bounded(path)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            total = sum(member.file_size for member in members)
            if total > MAX_BYTES:
                raise DataError(
                    f"{path} declares {total:,} bytes, more than {MAX_BYTES:,}: too many for a "
                    "spec; leave out images and features"
                )
            return {
                member.filename.removesuffix(".npy"): _read(archive, member, path)
                for member in members
                if member.filename.endswith(".npy")
            }
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
        raise DataError(f"{path} is not a complete .npz ({error}): {_guess(data)}") from error
    except (RuntimeError, ValueError, OverflowError, struct.error) as error:
        raise DataError(f"{path} is damaged ({error}); {_REMEDY}") from error


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> NDArray[np.generic]:
    where = f"{path}: {member.filename}"
    with archive.open(member) as file:
        content = io.BytesIO(file.read(member.file_size))
        file.read(1)  # checks the sum at the end
    version = npy.read_magic(content)
    if version not in _HEADERS:
        raise DataError(f"{where} has the .npy version {version}; {_REMEDY} with np.savez")
    shape, fortran_order, dtype = _HEADERS[version](content)
    if dtype.hasobject:
        raise DataError(
            f"{where} holds pickled objects, which are not read; save text as "
            "np.array(names, dtype=str)"
        )
    rest = content.getbuffer()[content.tell() :]
    if dtype.itemsize == 0 or math.prod(shape) * dtype.itemsize != len(rest):
        raise DataError(
            f"{where}: {len(rest)} bytes are not the declared {shape} of {dtype}; {_REMEDY}"
        )
    flat = np.frombuffer(rest, dtype)
    return flat.reshape(shape, order="F" if fortran_order else "C")


def _guess(data: bytes) -> str:
    if data.startswith(b"PK"):
        return "it is truncated or damaged; download it again"
    return describe_contents(data[:1024])
