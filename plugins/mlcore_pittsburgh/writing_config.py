"""Options of writing a data set in the form of Pittsburgh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class PittsburghWriteConfig:
    """Options of ``mlcore data write pittsburgh``.

    Attributes:
        image_format: jpeg, as in Pittsburgh; png is lossless, but other readers may not accept
            it.
        jpeg_quality: 1 to 100; colours are kept at full resolution.
    """

    image_format: Literal["jpeg", "png"] = "jpeg"
    jpeg_quality: int = 98

    def __post_init__(self) -> None:
        if not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality must be between 1 and 100, got {self.jpeg_quality}")
