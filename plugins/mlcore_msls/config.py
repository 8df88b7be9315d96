"""Options of the data set ``msls``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlcore.factories import SamplingRadii

RADII = SamplingRadii(near_radius_m=25.0, far_radius_m=25.0)
"""The data set's own: positives lie within 25 m."""

Condition = Literal["night", "season", "view", "none"]
Subtask = Literal["all", "s2w", "w2s", "o2n", "n2o", "d2n", "n2d"]
View = Literal["all", "forward", "backward", "sideways"]


@dataclass(frozen=True, kw_only=True)
class MslsConfig:
    """Options of Mapillary Street-Level Sequences.

    Attributes:
        root: Folder that contains train_val.
        cities: Cities to train on, named as their folders in train_val. Without any: all
            that are neither in validation_cities nor in test_cities.
        validation_cities: Cities to validate on.
        test_cities: Cities to test on; the default are the published validation cities, since
            positions of the published test cities are not public.
        condition: What results are reported by: night (night or day), season (that of the month
            and hemisphere), view (view direction) or none.
        subtask: References and queries of the tests of one published subtask: all, s2w (summer
            to winter), w2s, o2n (old to new), n2o, d2n (day to night) or n2d.
        view: Images of this view direction only; all: of any.
        accept_faults: Names of faults, as 'mlcore data check' lists them, that do not stop
            training or evaluation.
    """

    root: Path | None = None
    cities: tuple[str, ...] = ()
    validation_cities: tuple[str, ...] = ()
    test_cities: tuple[str, ...] = ("cph", "sf")
    condition: Condition = "night"
    subtask: Subtask = "all"
    view: View = "all"
    accept_faults: tuple[str, ...] = ()
