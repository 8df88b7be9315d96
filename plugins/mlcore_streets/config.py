"""Options of the town; imports neither NumPy nor torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from mlcore.option_types import NOT_NEGATIVE, Range, check_ranges

_LENGTH_M = Range(at_least=60, at_most=20_000)
_SPACING_M = Range(at_least=0.5, at_most=20)
_SIDE_PX = Range(at_least=32, at_most=1024)


@dataclass(frozen=True, kw_only=True)
class StreetsConfig:
    """Options of the rendered town.

    Attributes:
        town_seed: Seed of the town: streets, houses, weather and traffic.
        train_length_m: Length of the route through the training district, in metres.
        validation_length_m: Length of the route through the validation district, in metres.
        test_length_m: Length of the route through the test district, in metres.
        reference_spacing_m: Distance (metres) between two images of the references of the
            validation and test districts.
        query_spacing_m: Distance (metres) between two images of every other traversal.
        image_width_px: Width of the images in pixels.
        image_height_px: Height of the images in pixels.
        num_processes: Number of rendering processes; does not change the images.
    """

    town_seed: Annotated[int, NOT_NEGATIVE] = 0
    train_length_m: Annotated[float, _LENGTH_M] = 1600.0
    validation_length_m: Annotated[float, _LENGTH_M] = 240.0
    test_length_m: Annotated[float, _LENGTH_M] = 600.0
    reference_spacing_m: Annotated[float, _SPACING_M] = 2.5
    query_spacing_m: Annotated[float, _SPACING_M] = 4.0
    image_width_px: Annotated[int, _SIDE_PX] = 128
    image_height_px: Annotated[int, _SIDE_PX] = 48
    num_processes: Annotated[int, Range(at_least=1, at_most=256)] = 2

    def __post_init__(self) -> None:
        check_ranges(self)
