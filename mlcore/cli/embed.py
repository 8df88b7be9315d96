"""``mlcore embed RUN --out FILE``: embeddings of images, and an index of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlcore.cli import console
from mlcore.cli.trained import add_split, parse, parser_of, reopen, require_folder_of
from mlcore.errors import ConfigError

if TYPE_CHECKING:
    from mlcore.embedding import Embedded, Embedder
    from mlcore.exporting import Columns
    from mlcore.protocols import PlaceDataset, Split


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parser = parser_of("embed", "Write embeddings and an index of images.")
    add_split(parser, "test", "validation", "train")
    parser.add_argument(
        "--images", metavar="DIR", type=Path, help="embed the images of this folder instead"
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="FILE.parquet; or FILE.npy, with the index beside it in FILE.csv",
    )
    options, words = parse(parser, argv)
    if options.out.suffix not in (".parquet", ".npy"):
        raise ConfigError(f"--out {options.out} must end in .parquet or .npy")
    require_folder_of(options.out, "--out")
    trained = reopen(options, words, parser)

    from mlcore.exporting import write_embeddings
    from mlcore.judging import embedder_of

    with console.progress() as progress:
        embedder = embedder_of(trained.model, trained.config, progress)
        if options.images is None:
            split: Split = getattr(trained.dataset, options.split)
            found, index = _embed_split(embedder, trained.dataset, split)
        else:
            found, index = _embed_folder(embedder, options.images)
    console.notes([f"left out, unreadable: {name}" for name in found.skipped])
    for path in write_embeddings(options.out, found.embeddings, index):
        console.say(f"Written: {path}")
    num_images, num_dimensions = found.embeddings.shape
    console.write(f"{num_images} images, {num_dimensions} dimensions")
    return 0


def _embed_split(
    embedder: Embedder, dataset: PlaceDataset, split: Split
) -> tuple[Embedded, Columns]:
    from mlcore.exporting import split_columns

    index = np.concatenate([split.references.index, split.queries.index])
    found = embedder(dataset, index)
    columns = split_columns(split, dataset.image_name)
    return found, {name: column[found.rows] for name, column in columns.items()}


def _embed_folder(embedder: Embedder, folder: Path) -> tuple[Embedded, Columns]:
    from mlcore.image_files import find_images

    images = find_images(folder)
    found = embedder(images, np.arange(len(images)))
    names = np.array([images.image_name(int(row)) for row in found.rows], dtype=object)
    return found, {"image": names}
