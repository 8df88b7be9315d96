"""Which image belongs to which split, and whether it is searched or looked for.

Options take precedence over columns; images are never assigned at random.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlcore.errors import DataError
from mlcore_images.config import ImagesConfig
from mlcore_images.readers.folders import ROLES
from mlcore_images.readers.listing import Listing, Mask
from mlcore_images.selection import parse, select

SPLITS = ("train", "validation", "test")
REFERENCE, QUERY = 0, 1

_SPLIT_WORDS = {"train": 0, "val": 1, "validation": 1, "test": 2}
_ROLE_WORDS = {word: QUERY if role == "queries" else REFERENCE for word, role in ROLES.items()}
_SELECTIONS = (*SPLITS, "references", "queries")

Codes = NDArray[np.int8]


@dataclass(frozen=True)
class Parts:
    """Where each image goes.

    Attributes:
        split: ``(N,)``, position in :data:`SPLITS`, or -1 for an image in none.
        role: ``(N,)``, REFERENCE, QUERY, or -1 for an image that is neither.
        notes: What was left out.
    """

    split: Codes
    role: Codes
    notes: tuple[str, ...]

    def rows(
        self, split: str, role: int, order: NDArray[np.int64] | None = None
    ) -> NDArray[np.int64]:
        """Return the images of one role in one split, in a given order of all images."""
        chosen = (self.split == SPLITS.index(split)) & (self.role == role)
        return np.flatnonzero(chosen) if order is None else order[chosen[order]]


def columns_of(config: ImagesConfig) -> set[str]:
    """Return the columns that the selections of a configuration name.

    Raises:
        ConfigError: A selection does not follow the grammar.
    """
    given = {option: getattr(config, option) for option in _SELECTIONS}
    return {
        clause.column
        for option, expression in given.items()
        if expression
        for clauses in parse(option, expression)
        for clause in clauses
    }


def assign(listing: Listing, config: ImagesConfig) -> Parts:
    """Decide the split and the role of every image.

    Raises:
        ConfigError: A selection does not follow the grammar.
        DataError: A selection selects nothing, two of them the same image, a column holds
            an unknown word, nothing says what trains and what tests, or a split has
            queries but no references.
    """
    split = _splits(listing, config)
    role = _roles(listing, config)
    parts = Parts(split, role, (*_left_out(split, role),))
    for name in SPLITS:
        if len(parts.rows(name, QUERY)) and not len(parts.rows(name, REFERENCE)):
            raise DataError(
                f"{listing.source}: split {name!r} has {len(parts.rows(name, QUERY))} queries "
                f"and no references; check dataset.references and dataset.queries, "
                "or the column role"
            )
    return parts


def _splits(listing: Listing, config: ImagesConfig) -> Codes:
    given = {name: getattr(config, name) for name in SPLITS if getattr(config, name)}
    if given:
        masks = {name: select(listing, name, text) for name, text in given.items()}
        return _combine(listing, masks, {name: SPLITS.index(name) for name in masks})
    if "split" in listing:
        return _words(listing, "split", _SPLIT_WORDS)
    raise DataError(
        f"{listing.source} does not say which images are for training and which for the "
        "test: set dataset.train and dataset.test, for example to 'frame=0..59' and "
        "'frame=60..100' (* selects all), add a column split with train, validation or test, "
        f"or use folders of these names (columns: {', '.join((*listing.names, 'folder'))})"
    )


def _roles(listing: Listing, config: ImagesConfig) -> Codes:
    masks = {
        name: select(listing, name, getattr(config, name))
        for name in ("references", "queries")
        if getattr(config, name)
    }
    if len(masks) == 2:
        return _combine(listing, masks, {"references": REFERENCE, "queries": QUERY})
    if "references" in masks:
        return np.where(masks["references"], REFERENCE, QUERY).astype(np.int8)
    if "queries" in masks:
        return np.where(masks["queries"], QUERY, REFERENCE).astype(np.int8)
    if "role" in listing:
        return _words(listing, "role", _ROLE_WORDS)
    return np.full(len(listing), REFERENCE, dtype=np.int8)


def _combine(listing: Listing, masks: Mapping[str, Mask], codes: Mapping[str, int]) -> Codes:
    """Return the code of the one mask that holds an image, -1 where none does."""
    result = np.full(len(listing), -1, dtype=np.int8)
    for name, mask in masks.items():
        twice = np.flatnonzero(mask & (result >= 0))
        if len(twice):
            first = listing.where(twice[:1])[0]
            raise DataError(
                f"{listing.source}: {len(twice)} images, the first at {first}, are selected by "
                f"dataset.{name} and also by another of {', '.join(masks)}; these "
                "must not overlap"
            )
        result[mask] = codes[name]
    return result


def _words(listing: Listing, column: str, known: Mapping[str, int]) -> Codes:
    """Return the codes of a column of known words, -1 where it is empty."""
    encoded = listing.encoded(column)
    words = pc.utf8_lower(encoded.dictionary.cast(pa.string())).to_pylist()
    codes = np.array([known.get(word or "", -2) for word in words] + [-1], dtype=np.int8)
    codes[[i for i, word in enumerate(words) if not (word or "").strip()]] = -1
    result: Codes = codes[encoded.indices.cast(pa.int64()).fill_null(-1).to_numpy()]
    remedy = f"write one of {', '.join(known)}, or nothing to leave the image out"
    listing.refuse(result == -2, column, "is unknown", remedy)
    return result


def _left_out(split: Codes, role: Codes) -> list[str]:
    notes = []
    if num_no_split := int((split < 0).sum()):
        notes.append(f"{num_no_split} images are in no split and are left out")
    if num_no_role := int(((split >= 0) & (role < 0)).sum()):
        notes.append(
            f"{num_no_role} images are neither references nor queries and are left out"
        )
    return notes
