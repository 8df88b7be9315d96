"""Options of the data set ``pittsburgh``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlcore.factories import SamplingRadii

Protocol = Literal["30k", "250k", "paper"]

RADII = SamplingRadii(near_radius_m=10.0, far_radius_m=25.0)
"""Of NetVLAD: positives within 10 m, negatives beyond 25 m."""


@dataclass(frozen=True, kw_only=True)
class PittsburghConfig:
    """Options of Pittsburgh in the form that NetVLAD introduced.

    Attributes:
        root: Folder of the data, with the images in 000 to 010 and queries_real, in images and
            queries, or in raw/Pittsburgh/images and raw/Pittsburgh/queries.
        protocol: 30k and 250k are the splits of the spec files of that name. paper is for
            evaluation only: all images of the three 250k specs (or of pitts250k_all, if
            there is one) with pitch 1, and of the references those within 100 m of a query.
        specs: Folder of the spec files, such as pitts30k_test.mat or pitts30k_test.npz.
            none: root, or datasets, specs or dataset_gt_files in it.
        reference_root: Folder that reference names are relative to. none: detected.
        query_root: Folder that query names are relative to. none: detected.
        accept_faults: Names of faults, as 'mlcore data check' lists them, that do not stop
            training or evaluation.
    """

    root: Path | None = None
    protocol: Protocol = "30k"
    specs: Path | None = None
    reference_root: Path | None = None
    query_root: Path | None = None
    accept_faults: tuple[str, ...] = ()
