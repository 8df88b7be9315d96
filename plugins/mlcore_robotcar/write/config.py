"""Options of writing a data set in the form of RobotCar's download."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from mlcore.option_types import AT_LEAST_ONE, Range, check_ranges


@dataclass(frozen=True, kw_only=True)
class RobotCarWriteConfig:
    """Options of ``mlcore data write robotcar``.

    Attributes:
        images: Where raw frames go. folders: DATE/stereo/centre; tars:
            DATE_stereo_centre_01.tar and so on, as they are downloaded.
        enlarge: Raw pixels along a side of each pixel of the data set. A raw pixel has one
            colour of three: with 1, colours blur by a pixel when they are developed; from 2
            on, scaling the developed frame down again gives nearly the same picture.
        chunk_frames: Frames per chunk (one tar).
    """

    images: Literal["folders", "tars"] = "folders"
    enlarge: Annotated[int, Range(at_least=1, at_most=16)] = 4
    chunk_frames: Annotated[int, AT_LEAST_ONE] = 6000

    def __post_init__(self) -> None:
        check_ranges(self)
