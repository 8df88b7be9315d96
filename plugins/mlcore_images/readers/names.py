"""Images whose file names hold their position: ``@easting@northing@zone@...@.jpg``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlcore.data import MAX_EXAMPLES
from mlcore.factories import Finding
from mlcore_images.readers.folders import folder_labels
from mlcore_images.readers.listing import Listing

FIELDS = (
    "easting_m",
    "northing_m",
    "zone",
    "letter",
    "latitude",
    "longitude",
    "pano",
    "tile",
    "heading_deg",
    "pitch",
    "roll",
    "height",
    "timestamp",
    "note",
)
"""What stands between the ``@`` of a name; all but the first two may be empty or missing."""

COLUMNS = ("easting_m", "northing_m", "heading_deg", "timestamp", "pano", "note")
LABELS = ("zone", "split", "role", "condition")

_LABEL = pa.dictionary(pa.int32(), pa.string())


def list_names(root: Path, folders: Iterable[tuple[PurePosixPath, list[str]]]) -> Listing:
    """Return the images whose names start with ``@``; the folder's own name is not parsed.

    Args:
        root: Folder that the paths are relative to.
        folders: Folders relative to it, and the names of the images in them.
    """
    tables, skipped = [], []
    for folder, names in folders:
        positioned = [name for name in names if name.startswith("@")]
        skipped += [str(folder / name) for name in names if not name.startswith("@")]
        if positioned:
            tables.append(_parse(folder, positioned))
    table = pa.concat_tables(tables)
    empty = [name for name in (*COLUMNS, *LABELS) if table[name].null_count == len(table)]
    table = table.drop_columns([name for name in empty if name not in COLUMNS[:2]])
    findings = tuple(_skipped(skipped))
    return Listing(root, root, table, tuple(table.column_names), "file names", findings)


def _parse(folder: PurePosixPath, names: list[str]) -> pa.Table:
    """Return the fields of the names of one folder as columns of text."""
    column = pa.array(names, pa.large_string())
    stem = pc.replace_substring_regex(column, r"\.[^.@]*$", "")
    padded = _join(stem, "@" * (len(FIELDS) + 1))
    parts = pc.split_pattern(padded, "@", max_splits=len(FIELDS) + 1)
    fields = {name: pc.list_element(parts, at) for at, name in enumerate(FIELDS, start=1)}
    prefix = "" if str(folder) == "." else f"{folder}/"
    columns = {name: _or_null(fields[name]) for name in COLUMNS}
    zone = _join(fields["zone"], fields["letter"])
    labels = folder_labels(folder)
    return pa.table(
        {
            "path": _join(prefix, column),
            **columns,
            "zone": _or_null(zone).cast(pa.string()).dictionary_encode(),
            **{name: _constant(labels.get(name), len(names)) for name in LABELS[1:]},
        }
    )


def _join(*parts: pa.Array | str) -> pa.Array:
    kind = pa.large_string()
    texts = [pa.scalar(part, kind) if isinstance(part, str) else part for part in parts]
    return pc.binary_join_element_wise(*texts, pa.scalar("", kind))


def _or_null(texts: pa.Array) -> pa.Array:
    texts = pc.utf8_trim_whitespace(texts)
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, texts.type), texts)


def _constant(value: str | None, size: int) -> pa.DictionaryArray:
    if value is None:
        return pa.nulls(size, _LABEL)
    return pa.DictionaryArray.from_arrays(np.zeros(size, np.int32), pa.array([value]))


def _skipped(names: list[str]) -> list[Finding]:
    if not names:
        return []
    message = "images have no position in their name and are left out"
    return [Finding("warning", message, len(names), tuple(names[:MAX_EXAMPLES]), "left-out")]
