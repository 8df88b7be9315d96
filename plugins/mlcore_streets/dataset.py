"""The data set: tables of positions, and images from the cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlcore.errors import DataError
from mlcore.factories import BuildContext
from mlcore.files import user_cache_dir
from mlcore.protocols import PlaceTable, Split
from mlcore_streets.cache import ImageCache, Images, cache_key
from mlcore_streets.conditions import CONDITIONS
from mlcore_streets.config import StreetsConfig
from mlcore_streets.districts import District, draw_districts
from mlcore_streets.town.drives import SplitName


class StreetsDataset:
    """A town rendered from a seed: a :class:`mlcore.protocols.PlaceDataset`.

    Args:
        config: The town.
        context: Cache folder and progress callback.

    Raises:
        DataError: The images cannot be rendered or written.
    """

    def __init__(self, config: StreetsConfig, context: BuildContext) -> None:
        self._districts = draw_districts(config)
        key = cache_key(config)
        folder = (context.cache_dir or user_cache_dir()) / "streets"
        num_images = self._districts[-1].stop_index
        shape = (num_images, config.image_height_px, config.image_width_px, 3)
        self._cache = ImageCache(folder / f"{key}.npy", shape)
        self.notes: Sequence[str] = ()
        if not self._cache.is_whole():
            if self._cache.path.exists():
                self.notes = (f"{self._cache.path} was damaged and has been rendered again",)
            self._cache.build(config, context.progress)
        self.fingerprint = f"streets-{key}-{self._cache.checksum or 0:08x}"
        self._images: Images = self._cache.map()
        self.train, self.validation, self.test = tables(self._districts).values()

    def __len__(self) -> int:
        return len(self._images)

    @property
    def image_shape(self) -> tuple[int, int, int, int]:
        """Number, height, width and channels of the images."""
        return self._cache.shape

    @property
    def cache_path(self) -> Path:
        """The file that holds the images."""
        return self._cache.path

    def load_image(self, index: int) -> Tensor:
        """Return image ``index`` as uint8 ``(3, H, W)``."""
        self._require(index)
        return torch.from_numpy(self._images[index].transpose(2, 0, 1).copy())

    def image_name(self, index: int) -> str:
        """Return split, drive and number: "test/night-1/0042"."""
        self._require(index)
        district = next(d for d in self._districts if index < d.stop_index)
        number = int(np.searchsorted(district.first_index, index, side="right")) - 1
        drive, _ = district.drives[number]
        return f"{district.name}/{drive.name}/{index - district.first_index[number]:04d}"

    def _require(self, index: int) -> None:
        if not 0 <= index < len(self._images):
            raise DataError(f"the town has images 0 to {len(self._images) - 1}, not {index}")

    def __getstate__(self) -> dict[str, Any]:
        """Leave the images out: a worker maps the file itself."""
        return {name: value for name, value in vars(self).items() if name != "_images"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._images = self._cache.map()


def tables(districts: Sequence[District]) -> dict[SplitName, Split]:
    """Return the tables of the districts, which know all but the images."""
    return {district.name: _split(district) for district in districts}


def _split(district: District) -> Split:
    references = [
        number for number, (drive, _) in enumerate(district.drives) if drive.is_reference
    ]
    queries = [number for number in range(len(district.drives)) if number not in references]
    return Split(references=_table(district, references), queries=_table(district, queries))


def _table(district: District, numbers: list[int]) -> PlaceTable:
    drives = [district.drives[number] for number in numbers]
    conditions = list(CONDITIONS)
    sizes = [len(frames) for _, frames in drives]
    poses = [district.in_town(frames) for _, frames in drives]
    codes = [conditions.index(drive.condition.name) for drive, _ in drives]
    first = [
        np.arange(size) + district.first_index[n]
        for n, size in zip(numbers, sizes, strict=True)
    ]
    return PlaceTable(
        index=np.concatenate(first).astype(np.int64),
        positions_m=np.concatenate([positions for positions, _ in poses]),
        headings_rad=np.concatenate([headings for _, headings in poses]),
        arc_length_m=np.concatenate([frames.along_m for _, frames in drives]),
        traversal=np.repeat(np.arange(len(drives)), sizes),
        traversals=[drive.name for drive, _ in drives],
        condition=np.repeat(np.array(codes), sizes),
        conditions=conditions,
    )
