"""Options of writing a data set in the form of RobotCar's download."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
    enlarge: int = 4
    chunk_frames: int = 6000

    def __post_init__(self) -> None:
        if not 1 <= self.enlarge <= 16:
            raise ValueError(f"enlarge must be between 1 and 16, got {self.enlarge}")
        if self.chunk_frames < 1:
            raise ValueError(f"chunk_frames must be at least 1, got {self.chunk_frames}")
