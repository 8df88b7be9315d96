"""Options of the town; imports neither NumPy nor torch."""

from __future__ import annotations

from dataclasses import dataclass


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

    town_seed: int = 0
    train_length_m: float = 1600.0
    validation_length_m: float = 240.0
    test_length_m: float = 600.0
    reference_spacing_m: float = 2.5
    query_spacing_m: float = 4.0
    image_width_px: int = 128
    image_height_px: int = 48
    num_processes: int = 2

    def __post_init__(self) -> None:
        if self.town_seed < 0:
            raise ValueError(f"town_seed must be at least 0, got {self.town_seed}")
        for name in ("train_length_m", "validation_length_m", "test_length_m"):
            _require_between(name, getattr(self, name), 60.0, 20_000.0)
        for name in ("reference_spacing_m", "query_spacing_m"):
            _require_between(name, getattr(self, name), 0.5, 20.0)
        for name in ("image_width_px", "image_height_px"):
            _require_between(name, getattr(self, name), 32, 1024)
        if self.num_processes < 1:
            raise ValueError(f"num_processes must be at least 1, got {self.num_processes}")


def _require_between(name: str, value: float, lowest: float, highest: float) -> None:
    if not lowest <= value <= highest:
        raise ValueError(f"{name} must be between {lowest:g} and {highest:g}, got {value:g}")
