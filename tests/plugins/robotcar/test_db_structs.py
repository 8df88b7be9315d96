"""RobotCar in dbStruct files: northing first, splits of their own, every trap of the files."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from mlcore.errors import DataError
from mlcore_robotcar.checking import check_robotcar
from mlcore_robotcar.config import RobotCarConfig
from mlcore_robotcar.dataset import find_layout, open_robotcar
from tests.support.pittsburgh_tree import cells
from tests.support.robotcar_tree import REGIONS, START, position, stamps_of

REFERENCE, QUERY = "2014-12-02-15-30-08", "2015-02-03-08-45-10"
NUM = 6


def name_of(date, stamp):
    return f"{date}/stereo/left/images/{stamp}.png"


def fields(shift=0, which="", swap=False, **changed):
    """A dbStruct: references of one drive, queries of another, on the same stretch."""
    stamps = stamps_of(NUM) + 10_000_000 * shift
    positions = position(stamps).T[:: 1 if swap else -1]
    made = {
        "whichSet": which,
        "dbImageFns": cells([name_of(REFERENCE, stamp) for stamp in stamps]),
        "utmDb": positions,
        "qImageFns": cells([name_of(QUERY, stamp) for stamp in stamps]),
        "utmQ": positions,
        "posDistThr": 15.0,
    }
    return {**made, **changed}


def write(root, **files):
    root.mkdir(exist_ok=True)
    for name, made in files.items():
        savemat(root / f"{name}.mat", {"dbStruct": made})
        for names in (made.get("dbImageFns", ()), made.get("qImageFns", ())):
            for cell in np.ravel(names).tolist():
                path = root / str(cell)
                if ".." in path.parts or not str(path).startswith(str(root)):
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (8, 6), (200, 10, 10)).save(path)
    return root


def open_at(root, **options):
    return open_robotcar(RobotCarConfig(root=root, **options))


def test_their_splits_are_taken(tmp_path):
    root = write(
        tmp_path / "a",
        oxford_train=fields(0),
        oxford_val=fields(1),
        anything=fields(2, "test"),
    )
    assert find_layout(root) == "mat"
    dataset = open_at(root)
    assert "dbStruct files (MATLAB); 36 images of 2 traversals" in dataset.notes[0]
    assert "oxford_train.mat: train, 6 references and 6 queries, posDistThr 15 m" in (
        dataset.notes
    )
    for shift, name in enumerate(("train", "validation", "test")):
        split = dataset.splits[name]
        stamps = stamps_of(NUM) + 10_000_000 * shift
        for date, table in ((REFERENCE, split.references), (QUERY, split.queries)):
            np.testing.assert_allclose(table.positions_m, position(stamps))
            names = [dataset.image_name(int(index)) for index in table.index]
            assert names == [name_of(date, stamp) for stamp in stamps]
            assert {table.traversals[code] for code in table.traversal} == {date}
    image = dataset.load_image(int(dataset.test.queries.index[0]))
    assert image[:, 0, 0].tolist() == [200, 10, 10]
    report = check_robotcar(RobotCarConfig(root=root))
    assert not [one for one in report.findings if one.severity == "fault"]


def test_options_override_their_splits(tmp_path):
    root = write(tmp_path / "a", oxford_test=fields())
    (root / "regions.txt").write_text(REGIONS)
    dataset = open_at(root, protocol="all")
    assert len(dataset.train.references)
    with pytest.raises(DataError, match=r"no dbStruct file of .* is of this split"):
        _ = open_at(root).train


def test_easting_before_northing_is_found_by_range_and_told(tmp_path):
    root = write(tmp_path / "a", oxford_test=fields(swap=True))
    dataset = open_at(root)
    np.testing.assert_allclose(dataset.test.references.positions_m, position(stamps_of(NUM)))
    assert sum("easting before northing; they were exchanged" in n for n in dataset.notes) == 2


def test_a_file_without_its_split_is_the_test(tmp_path):
    dataset = open_at(write(tmp_path / "a", oxford=fields()))
    assert len(dataset.test.queries) == NUM
    assert "oxford.mat does not name its split: used as test" in dataset.notes


def test_left_out_traversals_take_their_images_along(tmp_path):
    root = write(tmp_path / "a", oxford_test=fields())
    dataset = open_at(root, leave_out=(QUERY,))
    assert len(dataset.splits["test"].references) == NUM
    assert len(dataset.splits["test"].queries) == 0


def test_a_missing_image_is_a_fault_of_the_check(tmp_path):
    root = write(tmp_path / "a", oxford_test=fields())
    (root / name_of(QUERY, stamps_of(NUM)[2])).unlink()
    report = check_robotcar(RobotCarConfig(root=root))
    assert any("image files are missing" in one.message for one in report.findings)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"dbImageFns": cells([f"../{START}.png"] * NUM)}, "dbImageFns names '../"),
        ({"qImageFns": cells([f"/a/{START}.png"] * NUM)}, "qImageFns names '/a/"),
        ({"dbImageFns": cells(["a/b.png"] * NUM)}, "a path such as"),
        ({"utmDb": np.zeros((2, NUM + 1))}, "utmDb is 2 x 7 but must be 2 x 6"),
        ({"utmQ": np.full((2, NUM), np.nan)}, "out of range for metres on earth"),
        ({"utmQ": np.full((2, NUM), [[51.76], [-1.26]])}, "degrees"),
        ({"utmDb": cells(["a"])}, "utmDb is a cell array"),
        ({"utmQ": 5e6 + np.zeros((2, NUM)), "qImageFns": fields()["dbImageFns"]}, "two pos"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, changed, words):
    root = write(tmp_path / "a", oxford_test=fields(**changed))
    with pytest.raises(DataError, match=words.replace("(", r"\(")) as caught:
        open_at(root)
    assert str(root) in str(caught.value)


def test_a_missing_field_and_a_damaged_file(tmp_path):
    made = fields()
    del made["utmQ"]
    root = write(tmp_path / "a", oxford_test=made)
    with pytest.raises(DataError, match=r"oxford_test\.mat has no utmQ"):
        open_at(root)
    path = root / "oxford_test.mat"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=r"oxford_test\.mat"):
        open_at(root)


def test_seqnets_suffix_opens_and_other_databases_do_not(tmp_path):
    root = write(tmp_path / "a", oxford_test=fields())
    (root / "oxford_test.mat").rename(root / "oxford_test.db")
    (root / "Thumbs.db").write_bytes(b"SQLite format 3\0" + bytes(100))
    assert find_layout(root) == "mat"
    assert len(open_at(root).test.queries) == NUM


def test_two_releases_of_one_route_are_a_fault_that_names_the_images(tmp_path):
    root = write(tmp_path / "a", north_train=fields(), south_test=fields())
    report = check_robotcar(RobotCarConfig(root=root))
    (fault,) = [one for one in report.findings if one.name == "shared-images"]
    assert fault.severity == "fault"
    assert fault.count == 2 * NUM
    assert fault.examples[0].startswith(f"{REFERENCE}/stereo/left/images/")
