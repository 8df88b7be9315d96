"""Options of the data set ``images``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from mlcore.errors import ConfigError
from mlcore.option_types import RelativeTo

Layout = Literal["auto", "table", "names", "exif"]
HeadingConvention = Literal["clockwise-from-north", "counterclockwise-from-east"]


@dataclass(frozen=True, kw_only=True)
class ImagesConfig:
    """Options of your own geo-tagged images.

    A selection is ``column=value``, where ``*`` in the value stands for any text and ``?`` for
    any character; ``column=low..high`` (numbers or dates, both ends included, either may be
    left out); several of these joined with ``&`` (and), and these with ``|`` (or); or ``*`` for
    every image. A date is ``2024``, ``2024-05``, ``2024-05-31`` or ``2024-05-31 10:20``, and
    means all of that year, month, day or minute.

    Attributes:
        root: Folder of the images; paths in the table are relative to it. none: the folder
            of the table.
        table: CSV or Parquet file with one row per image; looked for in root, then in the
            working folder. none: positions.csv or positions.parquet in root, if there is one.
        layout: Where positions come from: a table, file names such as
            @easting@northing@.jpg, or the EXIF GPS of the images. auto: the first of
            these that is found.
        train: Selection of the training images. If none of train, validation and test is
            given, the column split decides, or the folders train, val and test.
        validation: Selection of the validation images.
        test: Selection of the test images.
        references: Selection of the reference images of every split. If neither references nor
            queries is given, the column role decides, or the folders database and queries;
            if only one is given, the other is the rest.
        queries: Selection of the query images of every split.
        region: Column that names the region of each image, such as its city: images of
            different regions are infinitely far apart, whatever their positions. folder1 is
            the first folder of a path, folder2 the second. auto: the column region; otherwise
            the UTM zones of file names, or groups of latitude and longitude more than 100 km
            apart. none: one region.
        heading_convention: Zero and direction of the column heading_rad or heading_deg.
        swap_axes: Whether to exchange the two position columns (or the first two fields of a
            file name).
        accept_faults: Names of faults, as 'mlcore data check' lists them, that do not stop
            training or evaluation.
    """

    root: Path | None = None
    table: Annotated[Path | None, RelativeTo("root")] = None
    layout: Layout = "auto"
    train: str = ""
    validation: str = ""
    test: str = ""
    references: str = ""
    queries: str = ""
    region: str = "auto"
    heading_convention: HeadingConvention = "clockwise-from-north"
    swap_axes: bool = False
    accept_faults: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DraftConfig:
    """Options of a drafted table.

    Attributes:
        test: Share of the images to test on, from 0 to 0.5; 0 writes no split and no role.
        validation: Share of the images to choose settings on, from 0 to 0.5.
        buffer_m: No two splits have images within this distance of each other (metres).
            Images that would be nearer are in no split.
        revisit_m: An image is a query if a reference of its split, taken at least a minute
            earlier (10 images, without dates), lies within this distance (metres).
    """

    test: float = 0.2
    validation: float = 0.1
    buffer_m: float = 25.0
    revisit_m: float = 10.0

    def __post_init__(self) -> None:
        for name in ("test", "validation"):
            value = getattr(self, name)
            if not 0.0 <= value <= 0.5:
                raise ConfigError(f"{name} must be between 0 and 0.5, got {value}")
        for name in ("buffer_m", "revisit_m"):
            value = getattr(self, name)
            if not (value > 0.0 and math.isfinite(value)):
                raise ConfigError(f"{name} must be greater than 0, got {value}")
        if self.validation and not self.test:
            raise ConfigError(
                f"validation is {self.validation} and test is 0; set both to 0 to write "
                "positions without a cut"
            )
