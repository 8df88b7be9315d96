"""``mlcore embed RUN --out FILE``: embeddings of images, and an index of them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlcore.cli import console
from mlcore.cli.parser import Parser
from mlcore.cli.run_arguments import (
    TrainedRun,
    add_split,
    open_run,
    parser_for_run,
    require_parent,
)
from mlcore.errors import ConfigError

if TYPE_CHECKING:
    from argparse import Namespace

    from numpy.typing import NDArray

    from mlcore.protocols import PlaceDataset, Split
    from mlcore.retrieval.embedder import Embedder, ImageSource
    from mlcore.retrieval.export import Columns


def make_parser() -> Parser:
    """Return the parser of the command's own flags."""
    parser = parser_for_run("embed", "Write embeddings of images, and an index of the images.")
    add_split(parser, "test", "validation", "train")
    parser.add_argument(
        "--images",
        metavar="DIR",
        type=Path,
        help="embed the images of this folder instead of a split",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="FILE.parquet; FILE.npy, with the index in FILE.csv beside it; or a folder, with "
        "--shard_size",
    )
    parser.add_argument(
        "--shard_size",
        metavar="N",
        type=int,
        help="write shards of N images into the folder --out; if stopped, the same command "
        "continues",
    )
    parser.add_json_option()
    return parser


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parser = make_parser()
    options, changes = parser.parse_with_run_options(argv)
    _require_target(options.out, options.shard_size)
    require_parent(options.out, "--out")
    trained = open_run(options.run, changes, options.block, parser.command)

    from mlcore.evaluation.evaluate import embedder_of
    from mlcore.retrieval.export import write_embeddings

    with console.progress() as progress:
        embedder = embedder_of(trained.model, trained.config, progress)
        if options.images is None:
            images = _of_split(trained.dataset, getattr(trained.dataset, options.split))
        else:
            images = _of_folder(options.images)
        if options.shard_size is not None:
            made_from = _made_from(trained, options)
            return _embed_in_shards(embedder, images, options, made_from)
        found = embedder(images.source, images.index)
    console.notes([f"skipped, unreadable: {name}" for name in found.skipped])
    written = write_embeddings(options.out, found.embeddings, images.columns_of(found.rows))
    for path in written:
        console.say(f"Written: {path}")
    num_images, num_dimensions = found.embeddings.shape
    if options.json:
        console.write_json(
            {
                "written": [str(path) for path in written],
                "images": num_images,
                "dimensions": num_dimensions,
                "skipped": list(found.skipped),
            }
        )
    else:
        console.write(f"{num_images} images, {num_dimensions} dimensions")
    return 0


def _require_target(out: Path, shard_size: int | None) -> None:
    """Raise ConfigError unless embeddings can be written to ``out`` in the requested format."""
    if shard_size is None:
        if out.suffix not in (".parquet", ".npy"):
            raise ConfigError(
                f"--out {out} must end in .parquet or .npy, or be a folder with --shard_size"
            )
    elif shard_size < 1:
        raise ConfigError(f"--shard_size must be at least 1, got {shard_size}")
    elif out.suffix or out.is_file():
        raise ConfigError(f"with --shard_size, --out must be a folder, got {out}")


@dataclass(frozen=True)
class _Images:
    """Images to embed.

    Attributes:
        source: What reads them.
        index: ``(N,)`` int64, their indices in the source.
        columns: Metadata, by name.
    """

    source: ImageSource
    index: NDArray[np.int64]
    columns: Columns

    def columns_of(self, rows: NDArray[np.int64]) -> Columns:
        """Return the metadata of some of them."""
        return {name: column[rows] for name, column in self.columns.items()}


def _made_from(trained: TrainedRun, options: Namespace) -> dict[str, Any]:
    """Return what the embeddings depend on, to detect changes when a command is resumed."""
    checkpoint = trained.folder.newest_checkpoint()
    assert checkpoint is not None  # its weights are in use
    of_images = options.split if options.images is None else str(options.images.absolute())
    return {
        "run": str(trained.folder.path.absolute()),
        "weights": f"{zlib.crc32(checkpoint.read_bytes()):08x}",
        "images": of_images,
        "data": trained.dataset.fingerprint if options.images is None else "",
        "shard_size": options.shard_size,
    }


def _embed_in_shards(
    embedder: Embedder, images: _Images, options: Namespace, made_from: dict[str, Any]
) -> int:
    from mlcore.retrieval.export import write_embeddings
    from mlcore.retrieval.shards import ShardFolder

    folder = ShardFolder(options.out, {**made_from, "num_images": len(images.index)})
    size, total = options.shard_size, len(images.index)
    numbers = range(-(-total // size))
    missing = [number for number in numbers if not folder.has(number)]
    if len(missing) < len(numbers):
        console.say(f"{len(numbers) - len(missing)} of {len(numbers)} shards exist already")
    for number in missing:
        rows = np.arange(number * size, min((number + 1) * size, total))
        found = embedder(
            images.source, images.index[rows], f"shard {number + 1} of {len(numbers)}"
        )
        console.notes([f"skipped, unreadable: {name}" for name in found.skipped])
        columns = images.columns_of(rows[found.rows])
        write_embeddings(folder.shard(number), found.embeddings, columns)
    dimensions = embedder.model.embedding_dim
    if options.json:
        shards = [str(folder.shard(number)) for number in numbers]
        console.write_json({"written": shards, "images": total, "dimensions": dimensions})
    else:
        console.write(f"{total} images in {len(numbers)} shards, {dimensions} dimensions")
    return 0


def _of_split(dataset: PlaceDataset, split: Split) -> _Images:
    from mlcore.retrieval.export import split_columns

    index = np.concatenate([split.references.index, split.queries.index])
    return _Images(dataset, index, split_columns(split, dataset.image_name))


def _of_folder(folder: Path) -> _Images:
    from mlcore.data.image_files import find_images

    images = find_images(folder)
    console.notes(images.notes)
    index = np.arange(len(images))
    names = [images.image_name(int(row)) for row in index]
    return _Images(images, index, {"image": np.array(names, dtype=object)})
