"""Small JPEG pictures of a map's references, to show them and for rerankers to compare."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mlcore.data.images import rgb_image
from mlcore.errors import DataError
from mlcore.files import atomic_write
from mlcore.protocols import Progress
from mlcore.retrieval.embedder import ImageSource

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

_QUALITY = 90
_SIZE_KEY = b"longest_side_px"


def encode(
    source: ImageSource, index: NDArray[np.int64], longest_side_px: int, progress: Progress
) -> list[bytes]:
    """Return images as JPEG files, shrunk to a longest side; smaller ones keep their size.

    Raises:
        DataError: An image cannot be read.
    """
    files: list[bytes] = []
    for number, row in enumerate(index.tolist(), start=1):
        pixels = source.load_image(row).permute(1, 2, 0).numpy()
        picture = Image.fromarray(pixels)
        picture.thumbnail((longest_side_px, longest_side_px), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=_QUALITY)
        files.append(buffer.getvalue())
        progress("thumbnails", number, len(index))
    return files


def write(path: Path, files: Sequence[bytes], longest_side_px: int) -> None:
    """Write the thumbnails of a shard."""
    import pyarrow as pa

    schema = pa.schema([("jpeg", pa.binary())], {_SIZE_KEY: str(longest_side_px).encode()})
    table = pa.table({"jpeg": pa.array(files, pa.binary())}, schema=schema)
    with atomic_write(path) as file, pa.ipc.new_file(file, schema) as writer:
        writer.write_table(table)


def beside(table: Path) -> Path:
    """Return the file of the thumbnails of a shard's references."""
    return table.with_name(table.name.replace("references", "thumbnails"))


class ThumbnailFile:
    """The thumbnails of a shard, mapped into memory.

    Args:
        path: The file.

    Raises:
        DataError: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self._path = path
        try:
            self._table: pa.Table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            self.longest_side_px = int(self._table.schema.metadata[_SIZE_KEY])
        except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path} cannot be read: {error}") from error

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def image(self, row: int) -> Tensor:
        """Return a thumbnail as uint8 ``(3, H, W)``.

        Raises:
            DataError: It is damaged.
        """
        try:
            with Image.open(io.BytesIO(self._table["jpeg"][row].as_py())) as picture:
                return rgb_image(picture)
        except (OSError, ValueError, TypeError, IndexError) as error:
            raise DataError(f"{self._path}: thumbnail {row} is damaged: {error}") from error
