"""Options of the data set ``gsv-cities``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlcore.factories import SamplingRadii

RADII = SamplingRadii(near_radius_m=15.0, far_radius_m=25.0)
"""The images of one place lie within some metres; evaluation is within 25 m."""


@dataclass(frozen=True, kw_only=True)
class GsvCitiesConfig:
    """Options of GSV-Cities.

    Attributes:
        root: Folder that contains Images and Dataframes.
        cities: Cities to train on, named as their folders in Images. Without any: all cities
            that are neither in validation_cities nor in test_cities.
        validation_cities: Cities to validate on.
        test_cities: Cities to test on. Of each place with two images or more, the newest is a
            query and the others are references.
        accept_faults: Names of faults, as 'mlcore data check' lists them, that do not stop
            training or evaluation.
    """

    root: Path | None = None
    cities: tuple[str, ...] = ()
    validation_cities: tuple[str, ...] = ()
    test_cities: tuple[str, ...] = ()
    accept_faults: tuple[str, ...] = ()
