"""Options of writing a data set in the form of Pittsburgh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from mlcore.option_types import Range, check_ranges


@dataclass(frozen=True, kw_only=True)
class PittsburghWriteConfig:
    """Options of ``mlcore data write pittsburgh``.

    Attributes:
        image_format: jpeg, as in Pittsburgh; png is lossless, but other readers may not accept
            it.
        jpeg_quality: 1 to 100; colours are kept at full resolution.
    """

    image_format: Literal["jpeg", "png"] = "jpeg"
    jpeg_quality: Annotated[int, Range(at_least=1, at_most=100)] = 98

    def __post_init__(self) -> None:
        check_ranges(self)
