"""Which images train, validate and test: cut by polygons, or listed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import DataError

REGIONS = ("train", "validation", "test")
"""Names of the regions; codes are places in this tuple, -1 is none."""
OURS = Path(__file__).with_name("regions.txt")
"""Our own polygons of Oxford."""

_MAX_BYTES = 64 * 2**20
_LISTED = re.compile(
    r"(\d{4}-\d{2}-\d{2}-\d{2}-\d{2}-\d{2}).*?[\s/,](\d{1,18})(?:\.\w+)?\s*$", re.ASCII
)


@dataclass(frozen=True)
class Polygons:
    """Regions by polygons; where they overlap, test comes before validation before train.

    Attributes:
        path: Where they were read.
        polygons: Code of a region and its corners ``(K, 2)``, easting and northing.
    """

    path: Path
    polygons: tuple[tuple[int, NDArray[np.float64]], ...]

    def codes(
        self, date: str, timestamps: NDArray[np.int64], positions_m: NDArray[np.float64]
    ) -> NDArray[np.int8]:
        """Return the region ``(N,)`` of each image of a traversal, -1 outside all."""
        from matplotlib.path import Path as Outline

        del date, timestamps  # where an image is says it all
        codes = np.full(len(positions_m), -1, np.int8)
        for code, corners in sorted(self.polygons, key=lambda polygon: polygon[0]):
            middle = corners.mean(axis=0)  # in float64, before matplotlib sees large numbers
            codes[Outline(corners - middle).contains_points(positions_m - middle)] = code
        return codes


@dataclass(frozen=True)
class Lists:
    """Regions by lists of images.

    Attributes:
        path: Folder of the lists.
        rows: Timestamps, ascending, and their codes, by traversal.
    """

    path: Path
    rows: dict[str, tuple[NDArray[np.int64], NDArray[np.int8]]]

    def codes(
        self, date: str, timestamps: NDArray[np.int64], positions_m: NDArray[np.float64]
    ) -> NDArray[np.int8]:
        """Return the region ``(N,)`` of each image of a traversal, -1 if it is in no list."""
        del positions_m  # the lists say it all
        codes = np.full(len(timestamps), -1, np.int8)
        if date in self.rows:
            listed, regions = self.rows[date]
            at = np.searchsorted(listed, timestamps).clip(max=len(listed) - 1)
            found = listed[at] == timestamps
            codes[found] = regions[at[found]]
        return codes


Cut = Polygons | Lists


def find_regions(given: Path | None, root: Path) -> tuple[Cut, str]:
    """Return the regions, and a note on whose they are.

    Args:
        given: Option of the user: a file of polygons or a folder of lists.
        root: Folder of the data, in which ``regions.txt`` counts as given.

    Raises:
        DataError: They are missing or malformed.
    """
    path = given if given is not None else root / "regions.txt"
    if given is None and not path.is_file():
        return read_polygons(OURS), "regions: mlcore's own, because the paper's are lost"
    cut = read_lists(path) if path.is_dir() else read_polygons(path)
    return cut, f"regions: {path}"


def read_polygons(path: Path) -> Polygons:
    """Read polygons: a line with the region's name, then a line for each corner.

    Raises:
        DataError: A line is neither, a polygon has fewer than three corners, or there is none.
    """
    corners: list[tuple[int, list[tuple[float, float]]]] = []
    for number, line in enumerate(_lines(path), start=1):
        words = line.partition("#")[0].replace(",", " ").split()
        if not words:
            continue
        if len(words) == 1 and words[0] in REGIONS:
            corners.append((REGIONS.index(words[0]), []))
        else:
            corner = _corner(words)
            if corner is None or not corners:
                raise DataError(
                    f"{path}, line {number}: {line.strip()[:60]!r}; expected one "
                    f"of {', '.join(REGIONS)}, followed by a line 'easting northing' in metres "
                    "per corner"
                )
            corners[-1][1].append(corner)
    short = [REGIONS[code] for code, points in corners if len(points) < 3]
    if short or not corners:
        what = f"a polygon of {short[0]} has fewer than 3 corners" if short else "no polygon"
        raise DataError(f"{path}: {what}; name a region, then its corners")
    return Polygons(path, tuple((code, np.array(points)) for code, points in corners))


def _corner(words: list[str]) -> tuple[float, float] | None:
    try:
        easting, northing = (float(word) for word in words)
    except ValueError:
        return None
    return (easting, northing) if np.isfinite([easting, northing]).all() else None


def read_lists(folder: Path) -> Lists:
    """Read train.txt, validation.txt and test.txt: a traversal and a timestamp a line.

    Paths that contain both, such as ``2014-12-02-15-30-08/stereo/centre/1417534208124875.png``,
    do as well.

    Raises:
        DataError: None is there, a line is something else, or an image is in two lists.
    """
    rows: dict[str, dict[int, int]] = {}
    there = [name for name in REGIONS if (folder / f"{name}.txt").is_file()]
    if not there:
        raise DataError(f"{folder} has none of train.txt, validation.txt and test.txt")
    for name in there:
        path = folder / f"{name}.txt"
        for number, line in enumerate(_lines(path), start=1):
            if not line.strip():
                continue
            found = _LISTED.search(line)
            if found is None:
                raise DataError(
                    f"{path}, line {number}: {line.strip()[:80]!r} does not name "
                    "an image; expected a line such as '2014-12-02-15-30-08 1417534208124875'"
                )
            code = rows.setdefault(found[1], {}).setdefault(int(found[2]), REGIONS.index(name))
            if REGIONS[code] != name:
                raise DataError(
                    f"{path}, line {number}: the image is in {REGIONS[code]}.txt too"
                )
    return Lists(folder, {date: _sorted(codes) for date, codes in rows.items()})


def _sorted(codes: dict[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    stamps = np.array(sorted(codes), np.int64)
    return stamps, np.array([codes[stamp] for stamp in stamps.tolist()], np.int8)


def _lines(path: Path) -> list[str]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(
                f"{path} has more than {_MAX_BYTES:,} bytes, too many for a list of regions"
            )
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
