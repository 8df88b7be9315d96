"""Which spec files make up which split, and how many images are known to be in them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlcore.data import PositionIndex
from mlcore.errors import ConfigError, DataError
from mlcore_pittsburgh.config import PittsburghConfig
from mlcore_pittsburgh.specs import Images, Spec, read_spec

PARTS = {"train": "train", "validation": "val", "test": "test"}
"""How the spec files call the splits."""

KNOWN_COUNTS: Mapping[str, tuple[int, int]] = {
    "pitts30k_train": (10_000, 7_416),
    "pitts30k_val": (10_000, 7_608),
    "pitts30k_test": (10_000, 6_816),
    "pitts250k_train": (91_464, 7_824),
    "pitts250k_val": (78_648, 7_608),
    "pitts250k_test": (83_952, 8_280),
    "pitts250k_all": (254_064, 24_000),
}
"""References and queries of the published specs."""

PAPER_COUNTS = (18_588, 12_000)
"""References and queries of the paper's protocol."""
_PAPER_RADIUS_M = 100.0
_PITCH = re.compile(r"_pitch(\d+)_yaw\d+\.")
_FOLDERS = (".", "datasets", "specs", "dataset_gt_files")


@dataclass(frozen=True, kw_only=True)
class Part:
    """The images of a split."""

    references: Images
    queries: Images


def find_specs(config: PittsburghConfig, root: Path) -> dict[str, Path]:
    """Return the spec files of the protocol that are there, by their name without suffix.

    Raises:
        ConfigError: The folder of specs is none.
        DataError: There is not one of them, or one that the paper's protocol needs is not.
    """
    folders = [config.specs] if config.specs else [root / folder for folder in _FOLDERS]
    if config.specs and not config.specs.is_dir():
        raise ConfigError(f"dataset.specs {config.specs} is not a folder")
    size = "250k" if config.protocol == "paper" else config.protocol
    found = {}
    for stem in (f"pitts{size}_{part}" for part in (*PARTS.values(), "all")):
        files = [folder / (stem + suffix) for folder in folders for suffix in (".mat", ".npz")]
        there = [file for file in files if file.is_file()]
        if there:
            found[stem] = there[0]
    return _needed(config, found, folders)


def _needed(
    config: PittsburghConfig, found: dict[str, Path], folders: Sequence[Path]
) -> dict[str, Path]:
    whole = {stem: path for stem, path in found.items() if stem.endswith("_all")}
    parts = {stem: path for stem, path in found.items() if stem not in whole}
    if config.protocol == "paper" and whole:
        return whole
    due = [stem for stem in KNOWN_COUNTS if stem.endswith(tuple(PARTS.values()))]
    due = [stem for stem in due if (config.protocol == "30k") == stem.startswith("pitts30k")]
    missing = [stem for stem in due if stem not in parts]
    if not parts or (config.protocol == "paper" and missing):
        raise DataError(
            f"no spec file {', '.join(missing)} (.mat or .npz) in "
            f"{', '.join(map(str, folders))}; put it there or set dataset.specs (protocol "
            f"{config.protocol})"
        )
    return parts


def read_parts(
    config: PittsburghConfig, root: Path
) -> tuple[dict[str, Spec], dict[str, Part], tuple[str, ...]]:
    """Return specs by stem, images by split, and notes.

    Raises:
        ConfigError: The folder of specs is none.
        DataError: A spec is missing or cannot be used.
    """
    specs = {stem: read_spec(path) for stem, path in find_specs(config, root).items()}
    if config.protocol == "paper":
        part, notes = _paper(list(specs.values()))
        return specs, {"test": part}, notes
    parts = {
        split: Part(references=spec.references, queries=spec.queries)
        for split, stem in PARTS.items()
        if (spec := specs.get(f"pitts{config.protocol}_{stem}"))
    }
    absent = [split for split in PARTS if split not in parts]
    notes = (f"no spec file of {', '.join(absent)}: empty",) if absent else ()
    return specs, parts, notes


def _paper(specs: Sequence[Spec]) -> tuple[Part, tuple[str, ...]]:
    references = _lowest_pitch([spec.references for spec in specs], specs[0].path)
    queries = _lowest_pitch([spec.queries for spec in specs], specs[0].path)
    if not len(queries):
        raise DataError(
            f"{specs[0].path}: no query has pitch 1, which the paper's protocol needs"
        )
    nearest = PositionIndex(queries.positions_m).nearest(references.positions_m)
    away_m = np.linalg.norm(queries.positions_m[nearest] - references.positions_m, axis=1)
    kept = np.flatnonzero(away_m <= _PAPER_RADIUS_M)
    near = _take(references, kept)
    kept_of = f"{len(near)} of {len(references)} references with pitch 1"
    notes = [f"{kept_of} lie within {_PAPER_RADIUS_M:g} m of one of {len(queries)} queries"]
    if (len(near), len(queries)) != PAPER_COUNTS:
        notes.append(
            "the paper has {:,} references and {:,} queries: results do not compare. The "
            "three 250k specs name 23,712 of the 24,000 query images; a spec of all, as "
            "pitts250k_all.npz, would name the rest".format(*PAPER_COUNTS)
        )
    return Part(references=near, queries=queries), tuple(notes)


def _lowest_pitch(parts: Sequence[Images], path: Path) -> Images:
    """Return the images with pitch 1 of all parts."""
    names = [name for part in parts for name in part.names]
    found = [_PITCH.search(name) for name in names]
    if None in found:
        odd = names[found.index(None)]
        raise DataError(
            f"{path}: {odd} has no pitch in its name (NNNNNN_pitch1_yaw1.jpg), which the "
            "paper's protocol selects by; use protocol 250k"
        )
    rows = np.array([at for at, pitch in enumerate(found) if pitch and pitch[1] == "1"], int)
    every = Images(names=names, positions_m=np.concatenate([p.positions_m for p in parts]))
    return _take(every, rows)


def _take(images: Images, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Images:
    return Images(
        names=[images.names[row] for row in rows.tolist()], positions_m=images.positions_m[rows]
    )
