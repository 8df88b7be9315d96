"""RobotCar as others lay it out: tables with images, and positions in file names."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mlcore.errors import DataError
from mlcore_robotcar import open_robotcar
from mlcore_robotcar.prepare.decode import demosaic
from tests.support.robotcar_dataset import (
    REFERENCE,
    assert_same,
    config_of,
)
from tests.support.robotcar_tree import (
    HEADING,
    NUM,
    PAPER,
    REGIONS,
    START,
    frame,
    position,
    stamps_of,
)


def write_others(tmp_path, raw, form):
    """The same drive in the layouts of others."""
    root = tmp_path / form
    root.mkdir()
    (root / "regions.txt").write_text(REGIONS)
    rows = ["date,folder,t,easting,northing,yaw,l"]
    for number, date in enumerate(PAPER):
        start = START + 10**10 * number
        for at, stamp in enumerate(stamps_of(NUM, start).tolist()):
            easting, northing = position(stamp, start)
            image = Image.fromarray(demosaic(frame(at), "stereo/centre"))
            if form == "csv":
                folder = root / f"{date}_stereo_centre_{1 + at // (NUM // 2):02d}"
                named = 1 + at // (NUM // 2) if number % 2 else folder.name
                rows.append(
                    f"{date},{named},{stamp},{easting!r},{northing!r},{HEADING},{5.0 * at}"
                )
                path = folder / f"{stamp}.png"
            else:
                path = root / f"all/@{northing:.6f}@{easting:.6f}@{date}@{at}@{stamp}@.png"
            path.parent.mkdir(exist_ok=True)
            image.save(path)
    if form == "csv":
        (root / "images.csv").write_text(
            "\n".join(rows).replace("np.float64(", "").replace(")", "")
        )
    return root


def test_tables_of_others(tmp_path, raw):
    root = write_others(tmp_path, raw, "csv")
    dataset = open_robotcar(config_of(root))
    assert "third-party tables (CSV)" in dataset.notes[0]
    assert_same(open_robotcar(config_of(raw, longest_side_px=32)), dataset)


def test_file_names_of_others_have_northing_first(tmp_path, raw):
    root = write_others(tmp_path, raw, "names")
    dataset = open_robotcar(config_of(root))
    assert dataset.train.references.headings_rad is None
    reference = open_robotcar(config_of(raw)).train.references
    np.testing.assert_allclose(
        dataset.train.references.positions_m, reference.positions_m, atol=1e-5
    )


@pytest.mark.parametrize("folder", ["../raw", "/etc", "a/../../b"])
def test_tables_that_lead_elsewhere_are_refused(tmp_path, folder):
    row = f"{REFERENCE},{folder},5,620000,5735000,0"
    (tmp_path / "a.csv").write_text(f"date,folder,t,easting,northing,yaw\n{row}\n")
    with pytest.raises(DataError, match="are not a folder"):
        open_robotcar(config_of(tmp_path))
