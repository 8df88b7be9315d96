"""Spec files: which images a split has, and where each was taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from mlcore.data import MAX_BYTES, MatArray, fields_of, numbers_of, read_mat, texts_of
from mlcore.errors import DataError
from mlcore_pittsburgh.npz_file import read_npz
from mlcore_pittsburgh.plausibility import in_metres

FIELDS = (
    "whichSet",
    "dbImageFns",
    "utmDb",
    "qImageFns",
    "utmQ",
    "numImages",
    "numQueries",
    "posDistThr",
    "posDistSqThr",
    "nonTrivPosDistSqThr",
)
"""Fields of dbStruct in the order in which every known writer puts them."""

_PREFIXES = {"dbImageFns": ("images",), "qImageFns": ("queries_real", "queries")}
"""Folders that some lists put before names; the roots of the images stand for them."""

_LISTS = {
    "dbImageFns": ("imageNames_index", "index", "database"),
    "qImageFns": ("imageNames_query", "query", "queries"),
}
"""Endings of text files that hold the names of an .npz."""


@dataclass(frozen=True, kw_only=True)
class Images:
    """References or queries of a spec.

    Attributes:
        names: Paths relative to the folder of references or queries.
        positions_m: ``(N, 2)`` float64, easting and northing in metres.
    """

    names: Sequence[str]
    positions_m: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What a spec file says.

    Attributes:
        path: The file.
        references: dbStruct's database.
        queries: dbStruct's queries.
        warnings: What was found odd, and how it was taken.
    """

    path: Path
    references: Images
    queries: Images
    warnings: tuple[str, ...]


def read_spec(path: Path) -> Spec:
    """Read a spec, ``.mat`` with a struct or with arrays at top level, or ``.npz``.

    Raises:
        DataError: The file is damaged, foreign or implausible; the message names the field.
    """
    npz = path.suffix.lower() == ".npz"
    values = _from_npz(path) if npz else _from_mat(path)
    warnings: list[str] = []
    references = _images(path, values, "dbImageFns", "utmDb", warnings, rows_first=npz)
    queries = _images(path, values, "qImageFns", "utmQ", warnings, rows_first=npz)
    if not len(references):
        raise DataError(f"{path}: dbImageFns names no image; download the file again")
    for field, images in (("numImages", references), ("numQueries", queries)):
        declared = values.get(field)
        if isinstance(declared, np.ndarray) and declared.tolist() not in _scalars(len(images)):
            warnings.append(
                f"{path}: {field} is {declared.tolist()}, but {len(images)} are listed"
            )
    return Spec(path=path, references=references, queries=queries, warnings=tuple(warnings))


def _scalars(count: int) -> tuple[object, ...]:
    return (count, [count], [[count]])


Values = Mapping[str, NDArray[np.generic] | list[str]]


def _from_mat(path: Path) -> Values:
    fields = _named(_struct_or_variables(path))
    values: dict[str, NDArray[np.generic] | list[str]] = {}
    for name in ("dbImageFns", "qImageFns"):
        if name in fields:
            values[name] = _texts(fields[name])
    for name in ("utmDb", "utmQ", "numImages", "numQueries"):
        if name in fields:
            values[name] = numbers_of(fields[name])
    return values


def _texts(array: MatArray) -> list[str]:
    """Return names; an empty numeric array is how MATLAB saves an empty list."""
    return texts_of(array) if array.size else []


def _struct_or_variables(path: Path) -> Mapping[str, MatArray]:
    variables = read_mat(path)
    if "dbStruct" in variables:
        return fields_of(variables["dbStruct"])
    if len(variables) == 1 and "dbImageFns" not in variables:
        return fields_of(next(iter(variables.values())))
    return variables


def _named(fields: Mapping[str, MatArray]) -> Mapping[str, MatArray]:
    """Return the fields by the names of dbStruct; by their order where names differ."""
    if len(fields) == len(FIELDS) and not set(FIELDS) & set(fields):
        return dict(zip(FIELDS, fields.values(), strict=True))
    return fields


def _from_npz(path: Path) -> Values:
    arrays = read_npz(path)
    values: dict[str, NDArray[np.generic] | list[str]] = {}
    for name in ("utmDb", "utmQ", "numImages", "numQueries"):
        if name in arrays:
            if arrays[name].dtype.kind not in "iuf":
                raise DataError(f"{path}: {name} is {arrays[name].dtype}, not real numbers")
            values[name] = arrays[name].astype(np.float64)
    for name, positions in (("dbImageFns", "utmDb"), ("qImageFns", "utmQ")):
        if name in arrays:
            values[name] = _strings(path, name, arrays[name])
        elif positions in values:
            values[name] = _list_beside(path, name, len(values[positions]))
    return values


def _strings(path: Path, field: str, array: NDArray[np.generic]) -> list[str]:
    if array.dtype.kind not in "US":
        raise DataError(f"{path}: {field} is {array.dtype}, not text; save np.array(names)")
    try:
        return [str(name) for name in np.ravel(array).astype(str)]
    except ValueError as error:  # neither ASCII, nor code points
        raise DataError(f"{path}: {field} is not text ({error})") from error


def _list_beside(path: Path, field: str, count: int) -> list[str]:
    """Return the names of an .npz from a text file with a line for each."""
    candidates = [
        folder / f"{stem}_{ending}.txt"
        for folder in (path.parent, path.parent.parent / "dataset_imagenames")
        for stem in (path.stem, path.stem.rpartition("_")[0])
        for ending in _LISTS[field]
    ]
    there = [candidate for candidate in candidates if candidate.is_file()]
    lists = {candidate: _lines(candidate) for candidate in there}
    for names in lists.values():
        if len(names) == count:
            return names
    found = ", ".join(f"{file} with {len(names)}" for file, names in lists.items())
    raise DataError(
        f"{path} has {count} positions and no {field}: put a text file with {count} names, "
        f"one per line, next to it, such as {candidates[0].name}; found: {found or 'none'}"
    )


def _lines(path: Path) -> list[str]:
    if path.stat().st_size > MAX_BYTES:
        raise DataError(
            f"{path} has more than {MAX_BYTES:,} bytes, too many for a list of names"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8: {error}") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _images(
    path: Path,
    values: Values,
    names_field: str,
    positions_field: str,
    warnings: list[str],
    *,
    rows_first: bool,
) -> Images:
    for field in (names_field, positions_field):
        if field not in values:
            raise DataError(
                f"{path} has no {field}; it needs dbImageFns, utmDb, qImageFns and utmQ, and "
                f"has {', '.join(values) or 'none of them'}"
            )
    names = list(values[names_field])
    positions = np.asarray(values[positions_field])
    where = f"{path}: {positions_field}"
    columns = _columns(where, positions, len(names), rows_first=rows_first)
    return Images(
        names=[_relative(path, names_field, str(name)) for name in names],
        positions_m=in_metres(where, columns, warnings),
    )


def _columns(
    where: str, positions: NDArray[np.generic], count: int, *, rows_first: bool
) -> NDArray[np.float64]:
    """Return positions as ``(N, 2)``, whichever way round they are saved."""
    if count == 0 and positions.size == 0:
        return np.empty((0, 2))
    usual = (count, 2) if rows_first else (2, count)
    if positions.shape == usual:
        turned = not rows_first
    elif positions.shape == usual[::-1]:
        turned = rows_first
    else:
        raise DataError(
            f"{where} is {' x '.join(map(str, positions.shape))} but must be 2 x {count}, a "
            "column per named image. Names and positions are out of step; take both from one "
            "release"
        )
    return np.ascontiguousarray(positions.T if turned else positions, dtype=np.float64)


def _relative(path: Path, field: str, name: str) -> str:
    """Return a name relative to its root, refused where it would lead elsewhere."""
    posix = PurePosixPath(name.replace("\\", "/"))
    parts = posix.parts
    if not parts or posix.is_absolute() or ".." in parts or "\0" in name:
        raise DataError(
            f"{path}: {field} names {name!r}; expected a path relative to the folder of "
            "images, such as 000/000000_pitch1_yaw1.jpg"
        )
    kept = parts[1:] if len(parts) > 1 and parts[0] in _PREFIXES[field] else parts
    return "/".join(kept)
