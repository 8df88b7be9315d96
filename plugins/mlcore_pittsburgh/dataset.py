"""The data set ``pittsburgh``: columns of positions, and images read on demand."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlcore.errors import ConfigError, DataError
from mlcore.factories import Finding
from mlcore.protocols import PlaceTable, Split
from mlcore_pittsburgh.config import PittsburghConfig
from mlcore_pittsburgh.roots import find_roots, is_file
from mlcore_pittsburgh.specs import Images
from mlcore_pittsburgh.splits import PARTS, read_parts

if TYPE_CHECKING:
    from torch import Tensor

_FINGERPRINTED = 256
"""Largest number of evenly spaced images whose size in bytes is in the fingerprint."""
_VIEW = re.compile(r"_(pitch\d+_yaw\d+)\.")


def open_pittsburgh(config: PittsburghConfig) -> PittsburghDataset:
    """Open Pittsburgh.

    Raises:
        ConfigError: No root is given, or a path is not a folder.
        DataError: Specs or images are missing, malformed or implausible.
    """
    if config.root is None:
        raise ConfigError(
            "dataset.root is not set; give the folder that Pittsburgh was extracted to"
        )
    if not config.root.is_dir():
        raise DataError(f"dataset.root {config.root} is not a folder")
    return PittsburghDataset(config, config.root)


class PittsburghDataset:
    """Street View images of Pittsburgh: a :class:`mlcore.protocols.PlaceDataset`.

    An image's index counts the references, then the queries, split after split. Each of the
    24 views of a panorama belongs to a traversal of its own, so that the rows of one
    traversal move along the street. Headings are None: what yaw 1 looks at is not known.

    Args:
        config: Where the data are, and the protocol.
        root: Folder of the data.

    Attributes:
        specs: The spec files read, by name without suffix.
        layout: The folders of references and queries.
        splits: Train, validation and test; empty where there is no spec.
        names: Path of each image below the folder of references or queries.
        findings: What was found, what was odd and how it was taken.
        notes: The same as text.
    """

    def __init__(self, config: PittsburghConfig, root: Path) -> None:
        self.specs, parts, notes = read_parts(config, root)
        blocks = [block for part in parts.values() for block in (part.references, part.queries)]
        is_query = np.arange(len(blocks)) % 2 == 1
        roots = find_roots(
            config,
            root,
            [name for block in blocks[::2] for name in block.names],
            [name for block in blocks[1::2] for name in block.names],
        )
        self.names: pa.LargeStringArray = pa.concat_arrays(
            [
                pa.array(
                    [name.removeprefix(roots.stripped[at % 2]) for name in block.names],
                    pa.large_string(),
                )
                for at, block in enumerate(blocks)
            ]
        )
        self._is_query = np.repeat(is_query, [len(block) for block in blocks])
        self.layout = roots.layout
        self._roots = (roots.references, roots.queries)
        tables = _tables(blocks)
        empty = tables[0].take(slice(0, 0))
        self.splits = dict.fromkeys(PARTS, Split(references=empty, queries=empty))
        for name, references, queries in zip(parts, tables[::2], tables[1::2], strict=True):
            self.splits[name] = Split(references=references, queries=queries)
        read = ", ".join(str(spec.path) for spec in self.specs.values())
        taken = [
            f"the names of {role} begin with {prefix}, which is not a folder of the "
            "images: removed"
            for role, prefix in zip(("references", "queries"), roots.stripped, strict=True)
            if prefix
        ]
        total = f"{len(self.names)} images of {read}; folders: {self.layout}"
        self.findings: tuple[Finding, ...] = (
            *(Finding("info", note) for note in (total, *taken, *notes)),
            *(
                Finding("warning", line)
                for spec in self.specs.values()
                for line in spec.warnings
            ),
        )
        self.notes: tuple[str, ...] = tuple(map(str, self.findings))
        self._protocol = config.protocol

    @property
    def train(self) -> Split:
        """What is learned from; raises DataError where there is no spec of it."""
        return self._nonempty("train")

    @property
    def validation(self) -> Split:
        """What settings are chosen on; empty tables where there is no spec of it."""
        return self.splits["validation"]

    @property
    def test(self) -> Split:
        """What results are reported on; raises DataError where there is no spec of it."""
        return self._nonempty("test")

    def _nonempty(self, name: str) -> Split:
        split = self.splits[name]
        if len(split.references):
            return split
        if self._protocol == "paper":
            raise DataError(
                "protocol paper is for evaluation only: all of it is the test; train with "
                "another protocol or data set, then 'mlcore evaluate RUN --dataset "
                "pittsburgh --dataset.protocol paper'"
            )
        raise DataError(
            f"split {name} needs pitts{self._protocol}_{PARTS[name]}.mat or .npz; found only "
            f"{', '.join(self.specs)}"
        )

    @cached_property
    def fingerprint(self) -> str:
        """Changes with any name, position or split, and with sizes of images."""
        digest = hashlib.blake2b(digest_size=16)
        _, ends, text = self.names.buffers()  # the first says which are null: none is
        digest.update(ends)
        digest.update(text)
        for split in self.splits.values():
            for table in (split.references, split.queries):
                digest.update(b"%d," % len(table))
                digest.update(table.positions_m.tobytes())
        spread = np.linspace(0, len(self.names) - 1, min(_FINGERPRINTED, len(self.names)))
        for index in spread.astype(int).tolist():
            path = self.path(index)
            digest.update(b"%d," % (path.stat().st_size if is_file(path) else -1))
        return digest.hexdigest()

    def load_image(self, index: int) -> Tensor:
        """Return image ``index`` as uint8 ``(3, H, W)``, RGB.

        Raises:
            DataError: The image is missing or cannot be decoded; the message names it.
        """
        from mlcore.data import read_image

        return read_image(self.path(index))

    def image_name(self, index: int) -> str:
        """Return role and path of image ``index``: "queries/000/000000_pitch1_yaw1.jpg"."""
        role = "queries" if self._is_query[index] else "references"
        return f"{role}/{self.names[index]}"

    def path(self, index: int) -> Path:
        """Return where image ``index`` is."""
        return self._roots[int(self._is_query[index])] / str(self.names[index])


def _tables(blocks: Sequence[Images]) -> list[PlaceTable]:
    """Return a table for each block; references and queries alternate."""
    labels: dict[str, int] = {}
    tables = []
    start = 0
    for number, block in enumerate(blocks):
        role = ("references", "queries")[number % 2]
        codes = [
            labels.setdefault(f"{role} {view}".strip(), len(labels))
            for view in map(_view, block.names)
        ]
        tables.append((start, block, np.array(codes, np.int32)))
        start += len(block)
    return [_table(start, block, codes, list(labels)) for start, block, codes in tables]


def _table(
    start: int, block: Images, traversal: NDArray[np.int32], traversals: list[str]
) -> PlaceTable:
    return PlaceTable(
        index=np.arange(start, start + len(block), dtype=np.int64),
        positions_m=block.positions_m,
        traversal=traversal,
        traversals=traversals,
        condition=np.zeros(len(block), np.int8),
        conditions=["all"],
    )


def _view(name: str) -> str:
    found = _VIEW.search(name)
    return found[1] if found else ""
