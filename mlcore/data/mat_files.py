"""MATLAB v5 files, read within bounds: text, cells of text, numbers and structs, no more.

A file declares sizes at every level, and a reader that believes them can be made to allocate
anything or to recurse without end. Here every size is compared with the bytes that are there,
nothing is inflated beyond a limit, and nothing in a file is ever called. Format: "MAT-File
Format", The MathWorks.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlcore.data.spec_bytes import MAX_BYTES, describe_contents, read_bounded
from mlcore.errors import DataError

_HEADER_BYTES = 128
_INT8, _INT32, _UINT32 = 1, 5, 6
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
_CODECS = {
    1: ("latin-1",) * 2,
    2: ("latin-1",) * 2,
    4: ("utf-16-le", "utf-16-be"),
    16: ("utf-8",) * 2,
    17: ("utf-16-le", "utf-16-be"),
    18: ("utf-32-le", "utf-32-be"),
}
_CELL, _STRUCT, _CHAR = 1, 2, 4
_NUMERIC = range(6, 16)
_CLASSES = {
    1: "a cell array", 2: "a struct", 3: "an object", 4: "text", 5: "a sparse array",
    16: "a function", 17: "an opaque object (such as a string array)",
}  # fmt: skip
_OPAQUE = 17
_COMPLEX = 0x0800
_REMEDY = "download the file again"
_MAX_DIMENSIONS = 32
"""NumPy stops at 64; a spec has 2."""
_MAX_FIELDS = 1000
"""Of a struct, and variables of a file; a spec has 10."""
_MAX_TEXTS = 500_000
"""Twice the images of Pittsburgh, the largest spec known; a cell takes several microseconds."""


class MatArray(NamedTuple):
    """An array of a file: its header is read, its content is not.

    Attributes:
        where: File and field, for messages.
        name: Name of the variable; empty within a struct or cell.
        kind: MATLAB's array class.
        flags: The bits beside the class.
        shape: Dimensions as declared.
        body: What follows the header.
        big_endian: Byte order of the file.
    """

    where: str
    name: str
    kind: int
    flags: int
    shape: tuple[int, ...]
    body: memoryview
    big_endian: bool

    @property
    def size(self) -> int:
        """The number of its entries, as declared."""
        return math.prod(self.shape)

    @property
    def what(self) -> str:
        """The class in words."""
        if self.kind in _NUMERIC and self.flags & _COMPLEX:
            return "complex numbers"
        return _CLASSES.get(self.kind, "numbers" if self.kind in _NUMERIC else "unknown")

    def refuse(self, wanted: str) -> DataError:
        """Return the error for an array of another class."""
        return DataError(
            f"{self.where} is {self.what} but must be {wanted}; save it again "
            "from MATLAB, with save -v7"
        )


def read_mat(path: Path) -> dict[str, MatArray]:
    """Return the variables of a MATLAB v5 file by name.

    Raises:
        DataError: It is not a MATLAB v5 file, is truncated, or is larger than a spec can be.
    """
    data = memoryview(read_bounded(path))
    big_endian = _byte_order(path, data)
    variables: dict[str, MatArray] = {}
    at, left = _HEADER_BYTES, MAX_BYTES
    while at < len(data):
        kind, content, following = _element(data, at, big_endian, str(path))
        if kind == _COMPRESSED:
            at += 8 + len(content)  # not padded, unlike any other element
            content = memoryview(_inflate(content, left, big_endian, path))
            left -= len(content)
            kind, content, _ = _element(content, 0, big_endian, str(path))
        else:
            at = following
        if kind != _MATRIX:
            raise DataError(f"{path}: an element of type {kind} is not a variable; {_REMEDY}")
        if len(variables) == _MAX_FIELDS:
            raise DataError(
                f"{path} has more than {_MAX_FIELDS:,} variables; save dbStruct alone"
            )
        array = _array(content, big_endian, str(path))
        variables[array.name] = array._replace(where=f"{path}: {array.name}")
    return variables


def fields_of(array: MatArray) -> dict[str, MatArray]:
    """Return the fields of a 1 x 1 struct, in the order of the file.

    Raises:
        DataError: It is not a struct, not 1 x 1, or malformed.
    """
    if array.kind != _STRUCT or array.size != 1:
        raise array.refuse("a 1 x 1 struct")
    _, width, at = _element(array.body, 0, array.big_endian, array.where)
    _, text, at = _element(array.body, at, array.big_endian, array.where)
    if len(width) != 4:
        raise DataError(f"{array.where}: the length of its field names is damaged; {_REMEDY}")
    size = _unpack("i", width, array.big_endian)[0]
    if size <= 0 or len(text) % size:
        raise DataError(f"{array.where}: its field names are damaged; {_REMEDY}")
    if len(text) // size > _MAX_FIELDS:
        raise DataError(
            f"{array.where} declares {len(text) // size:,} fields; a spec has at most "
            f"{_MAX_FIELDS:,}; {_REMEDY}"
        )
    raw = [bytes(text[start : start + size]) for start in range(0, len(text), size)]
    names = [name.split(b"\0")[0].decode("latin-1") for name in raw]
    contents = _matrices(array._replace(body=array.body[at:]), len(names))
    return {
        name: _array(content, array.big_endian, f"{array.where}.{name}")
        for name, content in zip(names, contents, strict=True)
    }


def numbers_of(array: MatArray) -> NDArray[np.float64]:
    """Return real numbers in the declared shape.

    Raises:
        DataError: They are not real numbers, or not as many as declared.
    """
    if array.kind not in _NUMERIC or array.flags & _COMPLEX:
        raise array.refuse("an array of real numbers")
    if not array.size:
        return np.zeros(array.shape)
    kind, content, _ = _element(array.body, 0, array.big_endian, array.where)
    dtype = np.dtype((">" if array.big_endian else "<") + _NUMBERS.get(kind, "u1"))
    if kind not in _NUMBERS or len(content) != array.size * dtype.itemsize:
        raise DataError(
            f"{array.where}: {len(content)} bytes of type {kind} are not the declared "
            f"{' x '.join(map(str, array.shape))} numbers; {_REMEDY}"
        )
    flat = np.frombuffer(content, dtype)
    return flat.astype(np.float64).reshape(array.shape, order="F")


def texts_of(array: MatArray) -> list[str]:
    """Return the texts of a cell array, or the rows of a matrix of characters.

    Raises:
        DataError: It is neither, or malformed.
    """
    if array.kind == _CHAR:
        return _rows(array)
    if array.kind != _CELL:
        raise array.refuse("a cell array of text")
    texts = []
    for number, content in enumerate(_matrices(array, array.size), start=1):
        cell = _array(content, array.big_endian, array.where)
        rows = _rows(cell) if cell.kind == _CHAR else []
        if len(rows) != 1:
            where = f"{array.where}{{{number}}}"
            raise cell._replace(where=where).refuse("one line of text")
        texts.append(rows[0])
    return texts


def _rows(array: MatArray) -> list[str]:
    """Return the rows of a matrix of characters, without the blanks that fill them up."""
    num_rows = array.shape[0]
    if not array.size:
        return [""]
    kind, content, _ = _element(array.body, 0, array.big_endian, array.where)
    if kind not in _CODECS:
        raise DataError(f"{array.where}: text of unknown type {kind}; {_REMEDY}")
    try:
        text = str(content, _CODECS[kind][array.big_endian])
    except UnicodeDecodeError as error:
        raise DataError(f"{array.where}: {error}; {_REMEDY}") from error
    if len(array.shape) != 2 or len(text) != array.size:
        raise DataError(
            f"{array.where}: {len(text)} characters are not the declared "
            f"{' x '.join(map(str, array.shape))}; {_REMEDY}"
        )
    return (
        [text] if num_rows == 1 else [text[row::num_rows].rstrip() for row in range(num_rows)]
    )


def _byte_order(path: Path, data: memoryview) -> bool:
    """Return whether a v5 file is big-endian."""
    mark, version = bytes(data[126:128]), bytes(data[124:126])
    if mark not in (b"IM", b"MI") or version not in (b"\x00\x01", b"\x01\x00"):
        raise DataError(
            f"{path} is not a MATLAB v5 file: {describe_contents(bytes(data[:1024]))}"
        )
    return mark == b"MI"


def _inflate(content: memoryview, limit: int, big_endian: bool, path: Path) -> bytes:
    """Return a compressed variable; its declared size is looked at first."""
    inflater = zlib.decompressobj()
    try:
        tag = inflater.decompress(content, 8)
        size = _unpack("I", memoryview(tag)[4:8], big_endian)[0] if len(tag) == 8 else 0
        if size > limit:
            raise DataError(
                f"{path}: a variable declares {size:,} bytes, more than the {limit:,} that "
                "a spec may have; save dbStruct alone"
            )
        rest = inflater.decompress(inflater.unconsumed_tail, size + 1)
    except zlib.error as error:
        raise DataError(
            f"{path}: a compressed variable is damaged ({error}); {_REMEDY}"
        ) from error
    return tag + rest


def _matrices(array: MatArray, count: int) -> Iterator[memoryview]:
    """Yield the content of ``count`` consecutive arrays."""
    if count > len(array.body) // 8:  # a tag alone takes 8 bytes
        raise DataError(
            f"{array.where}: {count} entries are declared but only {len(array.body)} bytes "
            f"follow; {_REMEDY}"
        )
    if count > _MAX_TEXTS:
        raise DataError(
            f"{array.where}: {count:,} entries are declared; a spec has at most "
            f"{_MAX_TEXTS:,}; {_REMEDY}"
        )
    at = 0
    for _ in range(count):
        kind, content, at = _element(array.body, at, array.big_endian, array.where)
        if kind != _MATRIX:
            raise DataError(
                f"{array.where}: an element of type {kind} is not an array; {_REMEDY}"
            )
        yield content


def _array(data: memoryview, big_endian: bool, where: str) -> MatArray:
    """Read the header of an array."""
    if not len(data):  # how an empty cell may be written
        return MatArray(where, "", 6, 0, (0, 0), data, big_endian)
    kind, flags, at = _element(data, 0, big_endian, where)
    if kind != _UINT32 or len(flags) != 8:
        raise DataError(f"{where}: the header of an array is damaged; {_REMEDY}")
    word = _unpack("I", flags[:4], big_endian)[0]
    shape: tuple[int, ...] = ()
    if word & 0xFF != _OPAQUE:
        kind, dimensions, at = _element(data, at, big_endian, where)
        if kind != _INT32 or len(dimensions) % 4 or len(dimensions) < 8:
            raise DataError(f"{where}: the dimensions of an array are damaged; {_REMEDY}")
        if len(dimensions) > 4 * _MAX_DIMENSIONS:
            raise DataError(
                f"{where}: an array declares {len(dimensions) // 4:,} dimensions; at most "
                f"{_MAX_DIMENSIONS} are read; {_REMEDY}"
            )
        shape = _unpack(f"{len(dimensions) // 4}i", dimensions, big_endian)
        if min(shape) < 0:
            raise DataError(f"{where}: an array has dimensions {shape}; {_REMEDY}")
    _, name, at = _element(data, at, big_endian, where)
    text = bytes(name).decode("latin-1")
    return MatArray(where, text, word & 0xFF, word & 0xFF00, shape, data[at:], big_endian)


def _element(
    data: memoryview, at: int, big_endian: bool, where: str
) -> tuple[int, memoryview, int]:
    """Return type and content of the element at ``at``, and where the next one starts."""
    if at + 8 > len(data):
        raise DataError(f"{where}: it ends in the middle of an array; {_REMEDY}")
    kind, size = (_BIG if big_endian else _LITTLE).unpack_from(data, at)
    if kind > 0xFFFF:  # up to 4 bytes fit into the tag itself
        kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
        end, following = start + size, at + 8
    else:
        start = at + 8
        end = start + size
        following = min(end + -size % 8, len(data))
    if end > len(data) or (start == at + 4 and size > 4):
        raise DataError(
            f"{where}: an array of {size:,} bytes is declared but only "
            f"{len(data) - start:,} follow: the file is truncated or damaged; {_REMEDY}"
        )
    return kind, data[start:end], following


def _unpack(form: str, data: memoryview, big_endian: bool) -> tuple[int, ...]:
    return struct.unpack((">" if big_endian else "<") + form, data)


_LITTLE, _BIG = struct.Struct("<II"), struct.Struct(">II")
