"""Folders of images: what is in them, and what the folder names say."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from mlcore.errors import DataError

_SPLITS = ("train", "val", "validation", "test")
ROLES = {
    "database": "database",
    "db": "database",
    "gallery": "database",
    "ref": "database",
    "refs": "database",
    "reference": "database",
    "references": "database",
    "queries": "queries",
    "query": "queries",
}
"""Words for references and queries, in folder names and in the column ``role``."""


def require_utf8(folders: Iterable[tuple[PurePosixPath, list[str]]]) -> None:
    """Refuse names that are not text.

    Raises:
        DataError: A name is not valid UTF-8.
    """
    for folder, names in folders:
        for text in (str(folder), *names):
            if not is_utf8(text):
                where = ascii(text if text == str(folder) else f"{folder}/{text}")
                raise DataError(f"{where}: the name is not valid UTF-8; rename it")


def is_utf8(name: str) -> bool:
    """Return whether a file's name is text, and not bytes that Python had to escape."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def folder_labels(folder: PurePosixPath) -> dict[str, str]:
    """Return split, role and condition as far as the folder names say.

    ``test/queries_night`` are queries of the split test in condition night. Images of a split
    in a folder without a role, such as all of ``train`` in SF-XL, are references.
    """
    labels: dict[str, str] = {}
    for part in folder.parts:
        word, _, condition = part.lower().partition("_")
        if word in _SPLITS and not condition:
            labels.setdefault("split", word)
        elif word in ROLES:
            labels.setdefault("role", ROLES[word])
            if condition:
                labels.setdefault("condition", condition)
    if "split" in labels:
        labels.setdefault("role", "database")
    return labels
