"""Where the images are: the layouts in which people keep them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

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
        stripped: Leading parts of the names of references and of queries that are not
            folders there, such as "Pittsburgh250k/"; names are taken without them.
    """

    layout: str
    references: Path
    queries: Path
    stripped: tuple[str, str]


def find_roots(
    config: PittsburghConfig, root: Path, references: Sequence[str], queries: Sequence[str]
) -> Roots:
    """Return the first layout in which an image of the specs is found.

    Names are looked for as they are, then without the leading parts that they share.
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
        folders = (
            config.reference_root or root / of_references,
            config.query_root or root / of_queries,
        )
        stripped = [_shift(*pair) for pair in zip(folders, (references, queries), strict=True)]
        if None not in stripped:
            return Roots(
                layout=f"{config.reference_root or of_references}, "
                f"{config.query_root or of_queries}",
                references=folders[0],
                queries=folders[1],
                stripped=(stripped[0] or "", stripped[1] or ""),
            )
        tried += [
            f"{folder} has no {names[0]}"
            for folder, names, found in zip(
                folders, (references, queries), stripped, strict=True
            )
            if found is None
        ]
    raise DataError(
        f"the images are not in {root}: {'; '.join(dict.fromkeys(tried))}. References lie in "
        "000 to 010 with queries in queries_real, or in images and queries, or in "
        "raw/Pittsburgh/images and raw/Pittsburgh/queries; or set dataset.reference_root and "
        "dataset.query_root"
    )


def _shift(folder: Path, names: Sequence[str]) -> str | None:
    """Return the leading parts without which names are found in a folder; None if they are not.

    Tried from none to all of the parts that every name shares.
    """
    if not len(names):
        return ""
    spread = np.linspace(0, len(names) - 1, min(_PROBED, len(names))).astype(int)
    folders = PurePosixPath(names[0]).parts[:-1]
    for count in range(len(folders) + 1):
        prefix = "".join(f"{part}/" for part in folders[:count])
        found = any(is_file(folder / names[at].removeprefix(prefix)) for at in spread)
        if found and all(name.startswith(prefix) for name in names):
            return prefix
    return None


def is_file(path: Path) -> bool:
    """Return whether a file is there; a name that no file can have is not."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with a character it cannot have
        return False
