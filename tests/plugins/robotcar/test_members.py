"""RobotCar's tables read out of their tars, with nothing extracted."""

from __future__ import annotations

import tarfile

import numpy as np
import pytest

from mlcore.errors import DataError
from mlcore_robotcar.config import RobotCarConfig
from mlcore_robotcar.download.tables import read_gps, read_ins, read_tags
from mlcore_robotcar.download.tar_members import Member
from mlcore_robotcar.download.tars import index_tar, scan_tar
from mlcore_robotcar.download.traversal import read_traversal
from mlcore_robotcar.download.tree import find_traversals
from tests.support.robotcar_tree import write_images, write_metadata

DATE = "2014-12-02-15-30-08"
CONFIG = RobotCarConfig()
GPS_CSV = "timestamp,northing,easting\n1,5735000.0,620000.0\n"


def write_packed(root, prefix="", num=8, chunks=None):
    """Write a traversal in tars alone: gps, tags, and images with their timestamps."""
    folder = root.parent / f"{root.name}-extracted" / DATE
    stamps = write_metadata(folder, num, chunk_of=chunks, tags="rain,night")
    (folder / "gps/gps.csv").write_text(GPS_CSV)
    write_images(folder / "stereo/centre", stamps)
    root.mkdir()
    parts = {
        "gps": ["gps/ins.csv", "gps/gps.csv"],
        "rtk": ["rtk.csv"],
        "tags": ["tags.csv"],
        "stereo_centre_01": ["stereo/centre", "stereo.timestamps"],
    }
    for part, names in parts.items():
        with tarfile.open(root / f"{DATE}_{part}.tar", "w") as tar:
            for name in names:
                tar.add(folder / name, f"{prefix}{name}")
    return folder.parent


def read(root, config=CONFIG):
    traversal = find_traversals(root, "stereo/centre")[DATE]
    return read_traversal(traversal, config, root.parent / "cache")


@pytest.mark.parametrize("prefix", [f"{DATE}/", f"./{DATE}/", ""])
@pytest.mark.parametrize("poses", ["ins", "rtk"])
def test_tables_in_tars_are_those_extracted(tmp_path, prefix, poses):
    chunks = np.array([1] * 6 + [2] * 2)
    extracted = write_packed(tmp_path / "packed", prefix, chunks=chunks)
    config = RobotCarConfig(poses=poses)
    whole, packed = read(extracted, config), read(tmp_path / "packed", config)
    assert packed.faults == ()
    assert len(packed) == len(whole) == 8
    np.testing.assert_array_equal(packed.positions_m, whole.positions_m)
    np.testing.assert_array_equal(packed.headings_rad, whole.headings_rad)
    np.testing.assert_array_equal(packed.frames.chunks, chunks)  # by stereo.timestamps
    assert packed.tags == ("rain", "night")
    assert str(packed.track.source).endswith(f"_{'gps' if poses == 'ins' else 'rtk'}.tar/"
                                             f"{prefix}{'gps/ins' if poses == 'ins' else 'rtk'}.csv")  # fmt: skip
    again = read(tmp_path / "packed", config)  # out of the cache of tars
    np.testing.assert_array_equal(again.positions_m, whole.positions_m)


def test_what_is_extracted_comes_first(tmp_path):
    write_packed(tmp_path / "packed")
    write_metadata(tmp_path / "packed" / DATE, 8, tags="snow")
    assert read(tmp_path / "packed").tags == ("snow",)


def test_gps_csv_is_found_by_its_name(tmp_path):
    write_packed(tmp_path / "packed", f"{DATE}/")
    index = index_tar(tmp_path / f"packed/{DATE}_gps.tar", "stereo/centre", tmp_path / "cache")
    name = f"{DATE}/gps/gps.csv"
    assert len(read_gps(Member(index.path, name, *index.tables[name]))) == 1


def test_a_login_page_is_named_and_the_traversal_left_out(tmp_path):
    write_packed(tmp_path / "packed")
    path = tmp_path / "packed" / f"{DATE}_gps.tar"
    path.write_text("<html>login</html>")
    posed = read(tmp_path / "packed")
    assert len(posed) == 0
    assert any(str(path) in fault and "web page" in fault for fault in posed.faults)


@pytest.mark.parametrize("evil", ["../../gps/ins.csv", "/gps/ins.csv", "link"])
def test_a_tar_that_leads_elsewhere_is_refused(tmp_path, evil):
    write_packed(tmp_path / "packed")
    path = tmp_path / "packed" / f"{DATE}_gps.tar"
    member = tarfile.TarInfo("gps/ins.csv" if evil == "link" else evil)
    if evil == "link":
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(path, "a") as tar:
        tar.addfile(member)
    posed = read(tmp_path / "packed")
    assert len(posed) == 0
    words = "is a link" if evil == "link" else "leads out of the tar"
    assert any(str(path) in fault and words in fault for fault in posed.faults)


def test_of_a_truncated_tar_whole_tables_alone_are_read(tmp_path):
    write_packed(tmp_path / "packed")
    path = tmp_path / "packed" / f"{DATE}_gps.tar"
    data = path.read_bytes()
    offset, size = scan_tar(path, "stereo/centre").tables["gps/ins.csv"]
    path.write_bytes(data[: offset + size - 1])
    posed = read(tmp_path / "packed")
    assert len(posed) == 0
    assert any(f"{path} is truncated" in fault for fault in posed.faults)
    path.write_bytes(data[: offset + size])
    posed = read(tmp_path / "packed")
    assert len(posed) == 8
    assert any(f"{path} is truncated" in fault for fault in posed.faults)


def test_tables_of_another_traversal_are_not_taken(tmp_path):
    write_packed(tmp_path / "packed", "2015-02-03-08-45-10/")
    posed = read(tmp_path / "packed")
    assert len(posed) == 0
    assert any(f"{DATE} has no gps/ins.csv" in note for note in posed.notes)


def test_errors_name_tar_and_member(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(b"sun\n12;!!\n")
    for reader, words in ((read_tags, "is not a tag"), (read_ins, "has no column")):
        with pytest.raises(DataError, match=rf"a\.tar/gps/x\.csv.*{words}"):
            reader(Member(path, "gps/x.csv", 0, 10))
    with pytest.raises(DataError, match="ends within a file"):
        read_tags(Member(path, "tags.csv", 5, 10))
