"""What a data set is to the engine: tables of images with positions, and the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PlaceTable:
    """Columns of images: NumPy arrays, possibly memory-mapped, never a list of objects.

    Attributes:
        index: ``(N,)`` int64, what the data set's ``load_image`` takes.
        positions_m: ``(N, 2)`` or ``(N, 3)`` float64, metres.
        headings_rad: ``(N,)`` float64, clockwise from north in (-pi, pi], or None.
        arc_length_m: ``(N,)`` float64, distance along the traversal, or None.
        traversal: ``(N,)`` integer codes into ``traversals``. Rows of one traversal are in
            the order they were taken.
        traversals: Names of the traversals.
        condition: ``(N,)`` integer codes into ``conditions``.
        conditions: Names of the capture conditions, such as "overcast" or "night".
        region: ``(N,)`` integer codes into ``regions``, infinitely far apart; None for one.
        regions: Names of the regions, the same in all tables of a data set.
        place: ``(N,)`` integer codes of the data set's own places; None: those of a grid.
    """

    index: NDArray[np.int64]
    positions_m: NDArray[np.float64]
    traversal: NDArray[np.integer]
    traversals: Sequence[str]
    condition: NDArray[np.integer]
    conditions: Sequence[str]
    headings_rad: NDArray[np.float64] | None = None
    arc_length_m: NDArray[np.float64] | None = None
    region: NDArray[np.integer] | None = None
    regions: Sequence[str] = ()
    place: NDArray[np.integer] | None = None

    def __post_init__(self) -> None:
        size = len(self.index)
        if self.positions_m.ndim != 2 or self.positions_m.shape[1] not in (2, 3):
            raise ValueError(
                f"positions_m must be (N, 2) or (N, 3), got {self.positions_m.shape}"
            )
        for name, column in self._columns().items():
            if len(column) != size:
                raise ValueError(f"{name} has {len(column)} rows, index has {size}")

    def __len__(self) -> int:
        return len(self.index)

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_] | slice) -> PlaceTable:
        """Return the given rows (integer or boolean array, or slice) as a table."""
        return replace(self, **{name: column[rows] for name, column in self._columns().items()})

    def _columns(self) -> dict[str, Any]:
        names = [f.name for f in fields(self) if f.name not in _NAMES_OF_CODES]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


_NAMES_OF_CODES = ("traversals", "conditions", "regions")


@dataclass(frozen=True, kw_only=True)
class Split:
    """One part of a data set: what is searched, and what is looked for.

    In training, both take part: references are the traversal whose locations one epoch
    visits, queries the other traversals of the same places (possibly none).
    """

    references: PlaceTable
    queries: PlaceTable

    def __post_init__(self) -> None:
        one, other = ((t.region is None, *t.regions) for t in (self.references, self.queries))
        if one != other:
            raise ValueError(f"references have regions {one[1:]}, queries {other[1:]}")


class PlaceDataset(Protocol):
    """A data set of images with positions.

    Opening is cheap (no image is decoded, no tree is built), and an instance can be
    pickled to data-loading workers.

    Attributes:
        train: What is learned from, disjoint in space from the others.
        validation: What settings are chosen on; may have no queries.
        test: What results are reported on.
        fingerprint: Short string that changes when the images or positions change.
        notes: What was found and what was left out, by name and why: shown to the user.
    """

    @property
    def train(self) -> Split: ...
    @property
    def validation(self) -> Split: ...
    @property
    def test(self) -> Split: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def notes(self) -> Sequence[str]: ...

    def load_image(self, index: int) -> Tensor:
        """Return image ``index`` as uint8 ``(3, H, W)``, RGB.

        Raises:
            DataError: The image is missing or cannot be decoded; the message names it.
        """
        ...

    def image_name(self, index: int) -> str:
        """Return what a person would call image ``index``: its path, as a rule."""
        ...


@runtime_checkable
class SuppliesExtras(Protocol):
    """A data set that supplies ``Batch.extras``."""

    def extras(self, index: NDArray[np.int64]) -> Mapping[str, NDArray[np.generic]]:
        """Return arrays whose first axis runs over ``index``."""
        ...


@runtime_checkable
class HasCoordinates(Protocol):
    """A data set that knows latitude and longitude, before they were projected to metres."""

    def coordinates_deg(self, index: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return latitude and longitude ``(N, 2)`` of images, WGS 84; NaN if not known."""
        ...


@runtime_checkable
class HasImageFiles(Protocol):
    """A data set whose images are files, which are looked for before training starts."""

    def path(self, index: int) -> Path:
        """Return where image ``index`` is, or would be."""
        ...


class Progress(Protocol):
    """Told how far long work has come."""

    def __call__(self, description: str, done: int, total: int, detail: str = "") -> None:
        """``done`` of ``total`` steps of ``description`` are finished.

        ``detail`` is a word on how it goes, such as the current loss.
        """
        ...


def no_progress(description: str, done: int, total: int, detail: str = "") -> None:
    """Ignore progress."""
