"""Options of the rerankers; imports neither NumPy nor OpenCV."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from mlcore.option_types import Range, check_ranges


@dataclass(frozen=True, kw_only=True)
class SiftConfig:
    """Options of the verification with SIFT.

    Attributes:
        max_features: Strongest features of an image that are matched.
        ratio: Largest ratio of the distances to the nearest and the second nearest feature of
            the other image, for a match to count.
        tolerance_px: Distance in pixels within which a match agrees with a homography.
        min_inliers: Matches that must agree for a pair of images to be verified.
        longest_side_px: Longest side in pixels to which larger images are shrunk.
    """

    max_features: Annotated[int, Range(at_least=8, at_most=100_000)] = 1000
    ratio: Annotated[float, Range(above=0, at_most=1)] = 0.8
    tolerance_px: Annotated[float, Range(above=0, at_most=100)] = 4.0
    min_inliers: Annotated[int, Range(at_least=5, at_most=100_000)] = 15
    longest_side_px: Annotated[int, Range(at_least=32, at_most=8192)] = 640

    def __post_init__(self) -> None:
        check_ranges(self)
