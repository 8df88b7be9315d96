"""Several data sets as one: their images one after the other, each in regions of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlcore.data.soundness import splits_of
from mlcore.errors import DataError
from mlcore.factories import Finding
from mlcore.protocols import PlaceDataset, PlaceTable, Split

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

_SPLITS = ("train", "validation", "test")
_PLACES_PER_PART = 2**40
_PER_INDEX = ("times_s", "coordinates_deg", "extras")
"""What a data set may offer for an array of images; offered here if every part offers it."""


_ARRAYS = ("times_s", "coordinates_deg")
"""Those that are one array, not several by name."""


class SeveralDatasets:
    """Data sets, one after the other.

    The index of an image is that of its data set, plus the images of those before it. A part
    without images in a split is left out of that split. Columns that not all parts have, such
    as headings, are left out too. Images of different parts are in different regions.

    Args:
        parts: The data sets, by the label that goes before their names in notes, conditions,
            traversals and regions; at least one.
    """

    def __init__(self, parts: Mapping[str, PlaceDataset]) -> None:
        self.parts = dict(parts)
        self._splits = {label: splits_of(part) for label, part in self.parts.items()}
        self._first = np.cumsum([0, *map(_num_images, self._splits.values())])
        self._regions = {
            label: _regions_of(label, splits.values()) for label, splits in self._splits.items()
        }

    @cached_property
    def train(self) -> Split:
        """What is learned from."""
        return self._joined("train")

    @cached_property
    def validation(self) -> Split:
        """What settings are chosen on."""
        return self._joined("validation")

    @cached_property
    def test(self) -> Split:
        """What results are reported on."""
        return self._joined("test")

    @property
    def fingerprint(self) -> str:
        """Changes with that of any part, and with their order."""
        digest = hashlib.blake2b(digest_size=16)
        for part in self.parts.values():
            digest.update(f"{part.fingerprint}\n".encode())
        return digest.hexdigest()

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes of each part, and which have no images in a split."""
        notes = [
            f"{label}: {note}" for label, part in self.parts.items() for note in part.notes
        ]
        for name in ("train", "test"):
            without = [
                label for label, splits in self._splits.items() if not _has(splits, name)
            ]
            if without:
                notes.append(f"no images in {name}: {', '.join(without)}")
        has_headings = [_has_headings(splits) for splits in self._splits.values()]
        if any(has_headings) and not all(has_headings):
            notes.append("headings are not used: some of the data sets have none")
        return tuple(notes)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the parts found on opening."""
        return tuple(
            replace(finding, message=f"{label}: {finding.message}")
            for label, part in self.parts.items()
            for finding in getattr(part, "findings", ())
        )

    def load_image(self, index: int) -> Tensor:
        """Return image ``index`` as uint8 ``(3, H, W)``, RGB."""
        _, part, own = self._of(index)
        return part.load_image(own)

    def image_name(self, index: int) -> str:
        """Return what its part calls the image, after the part's label."""
        label, part, own = self._of(index)
        return f"{label}: {part.image_name(own)}"

    def part_of(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of the part, from 0, of each image."""
        return np.searchsorted(self._first, index, side="right") - 1

    def __getattr__(self, name: str) -> Any:
        parts = self.__dict__.get("parts", {})
        if name in ("path", *_PER_INDEX) and all(hasattr(p, name) for p in parts.values()):
            return self._path if name == "path" else partial(self._per_index, name)
        raise AttributeError(name)

    def _path(self, index: int) -> Path:
        _, part, own = self._of(index)
        path: Path = part.path(own)  # type: ignore[attr-defined]
        return path

    def _per_index(self, name: str, index: NDArray[np.int64]) -> Any:
        numbers = self.part_of(index)
        found: list[tuple[NDArray[np.int64], Any]] = []
        for number, part in enumerate(self.parts.values()):
            rows = np.flatnonzero(numbers == number)
            found.append((rows, getattr(part, name)(index[rows] - self._first[number])))
        back = np.argsort(np.concatenate([rows for rows, _ in found]))
        if name in _ARRAYS:
            return np.concatenate([column for _, column in found])[back]
        shared = set.intersection(*(set(columns) for _, columns in found))
        return {
            key: np.concatenate([columns[key] for _, columns in found])[back] for key in shared
        }

    def _of(self, index: int) -> tuple[str, PlaceDataset, int]:
        number = int(self.part_of(np.array([index]))[0])
        label = list(self.parts)[number]
        return label, self.parts[label], index - int(self._first[number])

    def _joined(self, name: str) -> Split:
        present = [
            (label, splits[name], int(first))
            for (label, splits), first in zip(self._splits.items(), self._first, strict=False)
            if name in splits
        ]
        if not present:
            reasons = [_why(label, part, name) for label, part in self.parts.items()]
            raise DataError("; ".join(reasons))
        joined = partial(self._join, [(label, first) for label, _, first in present])
        return Split(
            references=joined([split.references for _, split, _ in present]),
            queries=joined([split.queries for _, split, _ in present]),
        )

    def _join(
        self, labels: Sequence[tuple[str, int]], tables: Sequence[PlaceTable]
    ) -> PlaceTable:
        """Return the rows of tables of some parts, given each part's label and first index."""
        regions = [name for names in self._regions.values() for name in names]
        first_region = dict(
            zip(
                self._regions,
                np.cumsum([0, *map(len, self._regions.values())]).tolist(),
                strict=False,
            )
        )
        axes = min((t.positions_m.shape[1] for t in tables if len(t)), default=2)
        traversal, traversals = _coded(
            [
                (label, t.traversal, t.traversals)
                for (label, _), t in zip(labels, tables, strict=True)
            ]
        )
        condition, conditions = _coded(
            [
                (label, t.condition, t.conditions)
                for (label, _), t in zip(labels, tables, strict=True)
            ]
        )
        return PlaceTable(
            index=np.concatenate(
                [t.index + first for (_, first), t in zip(labels, tables, strict=True)]
            ),
            positions_m=np.concatenate([t.positions_m[:, :axes] for t in tables]),
            headings_rad=_optional(tables, lambda table: table.headings_rad),
            arc_length_m=_optional(tables, lambda table: table.arc_length_m),
            traversal=traversal,
            traversals=traversals,
            condition=condition,
            conditions=conditions,
            region=np.concatenate(
                [
                    np.full(len(t), first_region[label]) + (0 if t.region is None else t.region)
                    for (label, _), t in zip(labels, tables, strict=True)
                ]
            ).astype(np.int64),
            regions=tuple(regions),
            place=_places(tables, [list(self.parts).index(label) for label, _ in labels]),
        )


def _optional(
    tables: Sequence[PlaceTable],
    column: Callable[[PlaceTable], NDArray[np.float64] | None],
) -> NDArray[np.float64] | None:
    """Return a column of all tables; None if one with rows does not have it."""
    found = [column(table) for table in tables if len(table)]
    known = [values for values in found if values is not None]
    return np.concatenate(known) if known and len(known) == len(found) else None


def _places(tables: Sequence[PlaceTable], parts: Sequence[int]) -> NDArray[np.int64] | None:
    """Return places that differ from part to part; None if a part has none of its own."""
    found = [
        part * _PLACES_PER_PART + np.asarray(table.place, np.int64)
        for part, table in zip(parts, tables, strict=True)
        if table.place is not None
    ]
    return np.concatenate(found) if len(found) == len(tables) else None


def _coded(
    columns: Sequence[tuple[str, NDArray[np.integer], Sequence[str]]],
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the codes and names of labelled columns; a part with one name is that label."""
    codes, names = [np.empty(0, np.int64)], list[str]()
    for label, column, own in columns:
        codes.append(np.asarray(column, np.int64) + len(names))
        names += [label] if len(own) == 1 else [f"{label}: {name}" for name in own]
    return np.concatenate(codes), tuple(names)


def _tables(splits: Mapping[str, Split]) -> list[PlaceTable]:
    return [table for split in splits.values() for table in (split.references, split.queries)]


def _num_images(splits: Mapping[str, Split]) -> int:
    return max((int(t.index.max()) + 1 for t in _tables(splits) if len(t)), default=0)


def _regions_of(label: str, splits: Any) -> tuple[str, ...]:
    """Return the names of the regions of a part: its label, or its regions after the label."""
    own = next((split.references.regions for split in splits), ())
    return tuple(f"{label}: {name}" for name in own) if own else (label,)


def _has(splits: Mapping[str, Split], name: str) -> bool:
    return name in splits and len(splits[name].references) > 0


def _has_headings(splits: Mapping[str, Split]) -> bool:
    return all(table.headings_rad is not None for table in _tables(splits) if len(table))


def _why(label: str, part: PlaceDataset, name: str) -> str:
    try:
        getattr(part, name)
    except DataError as error:
        return f"{label}: {error}"
    return f"{label}: no images"
