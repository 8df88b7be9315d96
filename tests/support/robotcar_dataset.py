"""What tests of the data set ``robotcar`` do with a tree of :mod:`robotcar_tree`."""

from __future__ import annotations

import numpy as np

from mlcore.protocols import no_progress
from mlcore_robotcar import RobotCarConfig, check_robotcar, prepare_robotcar
from tests.support.robotcar_tree import PAPER

REFERENCE, QUERIES, VALIDATION = PAPER[0], PAPER[1:5], PAPER[5:7]
TRAINING = 11
"""Images of a traversal in the training region."""
UNCLEANED = {"exposure_percentiles": (0.0, 100.0), "max_offset_m": None}


def config_of(root, **options):
    return RobotCarConfig(
        root=root,
        **{"num_processes": 1, "longest_side_px": 16, "image_format": "png", **options},
    )


def prepare(root, out, **options):
    return prepare_robotcar(config_of(root, **options), out, no_progress)


def findings(root, severity, full=False, **options):
    report = check_robotcar(config_of(root, **options), full=full)
    return [one for one in report.findings if one.severity == severity]


def tables(dataset):
    for name, split in dataset.splits.items():
        yield f"{name}: references", split.references
        yield f"{name}: queries", split.queries


def assert_same(one, two):
    for (name, first), (_, second) in zip(tables(one), tables(two), strict=True):
        assert len(first), name
        np.testing.assert_allclose(first.positions_m, second.positions_m, atol=1e-6)
        np.testing.assert_allclose(first.headings_rad, second.headings_rad, atol=1e-6)
        np.testing.assert_allclose(first.arc_length_m, second.arc_length_m, atol=1e-5)
        dates = [np.array(t.traversals)[t.traversal].tolist() for t in (first, second)]
        assert dates[0] == dates[1]
        for a, b in list(zip(first.index, second.index, strict=True))[::7]:
            np.testing.assert_array_equal(one.load_image(int(a)), two.load_image(int(b)))
