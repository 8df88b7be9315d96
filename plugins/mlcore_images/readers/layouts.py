"""Which layout the images are in, and the listing that it gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mlcore.data import ImageWalk, image_suffixes
from mlcore.errors import ConfigError, DataError
from mlcore.factories import Finding
from mlcore_images.config import ImagesConfig
from mlcore_images.readers.exif import list_exif
from mlcore_images.readers.folders import require_utf8
from mlcore_images.readers.listing import Listing
from mlcore_images.readers.names import list_names
from mlcore_images.readers.tables import list_table
from mlcore_images.splits import columns_of

DEFAULT_TABLES = ("positions.csv", "positions.parquet")


def find_listing(config: ImagesConfig) -> Listing:
    """Return the images that a configuration points to.

    Raises:
        ConfigError: Neither root nor table is given, or a selection is malformed.
        DataError: The folder or table is missing or malformed, or no layout fits.
    """
    also = sorted({*columns_of(config), config.region})
    root = _root(config)
    table = _table(config, root)
    if table is not None:
        return list_table(table, root, also)
    if config.layout == "table":
        raise DataError(
            f"{root} holds neither {' nor '.join(DEFAULT_TABLES)}; give the table's path as "
            "dataset.table"
        )
    return _list_folder(config, root)


def _root(config: ImagesConfig) -> Path:
    if config.root is None and config.table is None:
        raise ConfigError(
            "data set 'images' needs dataset.root, the folder of the images, or dataset.table"
        )
    root = config.root if config.root is not None else config.table.parent  # type: ignore[union-attr]
    root = root.expanduser()
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise DataError(f"dataset.root is {root}, which {what}; give the folder of the images")
    return root


def _table(config: ImagesConfig, root: Path) -> Path | None:
    """Return the table to read, if there is one to be read."""
    if config.table is not None:
        if config.layout not in ("auto", "table"):
            raise ConfigError(
                f"dataset.table is given and dataset.layout is {config.layout!r}; remove "
                "one of them"
            )
        given = config.table.expanduser()
        return root / given if (root / given).is_file() else given
    if config.layout not in ("auto", "table"):
        return None
    candidates = (root / name for name in DEFAULT_TABLES)
    return next((path for path in candidates if path.is_file()), None)


def _list_folder(config: ImagesConfig, root: Path) -> Listing:
    walk = ImageWalk(root)
    folders = walk.folders
    if not folders:
        endings = ", ".join(sorted(image_suffixes()))
        raise DataError(
            "; ".join([f"{root} holds no image ({endings}) and no positions.csv", *walk.notes])
        )
    require_utf8(folders)
    has_names = any(name.startswith("@") for _, names in folders for name in names)
    if has_names and config.layout in ("auto", "names"):
        return _with_findings(list_names(root, folders), walk)
    listing = None if config.layout == "names" else list_exif(root, folders)
    if listing is None:
        num_images = sum(len(names) for _, names in folders)
        raise DataError(
            f"the {num_images} images in {root} have no positions: looked for "
            f"{_looked_for(config)}; write a positions.csv with columns path, easting_m, "
            "northing_m (or latitude, longitude)"
        )
    return _with_findings(listing, walk)


def _with_findings(listing: Listing, walk: ImageWalk) -> Listing:
    left_out = tuple(Finding("warning", note, name="left-out") for note in walk.notes)
    return replace(
        listing,
        findings=(
            Finding("info", f"files by ending: {walk.kinds}"),
            *left_out,
            *listing.findings,
        ),
    )


def _looked_for(config: ImagesConfig) -> str:
    return {
        "names": "file names such as @easting@northing@.jpg",
        "exif": "EXIF GPS",
    }.get(
        config.layout,
        "positions.csv, positions.parquet, file names such as @easting@northing@.jpg, EXIF GPS",
    )
