"""Where the images are: the layouts in which people keep them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlcore.errors import DataError
from mlcore_pittsburgh.config import PittsburghConfig

LAYOUTS = (
    (".", "queries_real"),
    ("images", "queries"),
    ("raw/Pittsburgh/images", "raw/Pittsburgh/queries"),
)
"""Folders of references and queries in the root."""
_PROBED = 100


@dataclass(frozen=True, kw_only=True)
class Roots:
    """The folders that names are relative to.

    Attributes:
        layout: The two folders, as found.
        references: Folder of the references.
        queries: Folder of the queries.
    """

    layout: str
    references: Path
    queries: Path


def find_roots(
    config: PittsburghConfig, root: Path, references: Sequence[str], queries: Sequence[str]
) -> Roots:
    """Return the first layout in which an image of the specs is found.

    Queries and references go by the same names: queries are never looked for among the
    references.

    Args:
        config: May name either folder.
        root: Folder of the data.
        references: Names of references.
        queries: Names of queries.

    Raises:
        DataError: No layout has both.
    """
    tried = []
    for of_references, of_queries in LAYOUTS:
        roots = Roots(
            layout=f"{config.reference_root or of_references}, "
            f"{config.query_root or of_queries}",
            references=config.reference_root or root / of_references,
            queries=config.query_root or root / of_queries,
        )
        missing = [
            f"{folder} has no {names[0]}"
            for folder, names in ((roots.references, references), (roots.queries, queries))
            if len(names) and not _any_there(folder, names)
        ]
        if not missing:
            return roots
        tried += missing
    raise DataError(
        f"the images are not in {root}: {'; '.join(dict.fromkeys(tried))}. References lie in "
        "000 to 010 with queries in queries_real, or in images and queries, or in "
        "raw/Pittsburgh/images and raw/Pittsburgh/queries; or set dataset.reference_root and "
        "dataset.query_root"
    )


def _any_there(folder: Path, names: Sequence[str]) -> bool:
    spread = np.linspace(0, len(names) - 1, min(_PROBED, len(names))).astype(int)
    return folder.is_dir() and any(is_file(folder / names[at]) for at in spread)


def is_file(path: Path) -> bool:
    """Return whether a file is there; a name that no file can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with a character it cannot have
        return False
