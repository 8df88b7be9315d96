"""RobotCar's tables and poses: every trap of the files, and a drive in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcore.errors import DataError
from mlcore_robotcar.download.conditions import condition_of
from mlcore_robotcar.download.poses import PoseStatus, arc_length_m, interpolate, quarter_turns
from mlcore_robotcar.download.tables import (
    Track,
    read_gps,
    read_ins,
    read_rtk,
    read_tags,
    read_timestamps,
)
from mlcore_robotcar.regions import OURS, find_regions, read_lists, read_polygons
from tests.support.robotcar_tree import (
    HEADING,
    INS_HEADER,
    RTK_HEADER,
    START,
    ins_rows,
    position,
    rtk_rows,
)

ROW = (
    "1547213094015673,INS_SOLUTION_GOOD,51.760642,-1.260381,114.696263,5735848.358489,"
    "620057.410348,-114.696263,30U,0.352838,-0.028782,0.011870,0.034337,-0.018738,0.047108"
)


def write(tmp_path, *lines, name="ins.csv", end="\n"):
    path = tmp_path / name
    path.write_text(end.join(lines) + end, newline="")
    return path


def track_of(stamps, positions, yaw=None, good=None):
    size = len(stamps)
    return Track(
        source="made",
        timestamps=np.array(stamps, np.int64),
        positions_m=np.array(positions, float).reshape(-1, 2),
        yaw_rad=np.zeros(size) if yaw is None else np.array(yaw, float),
        is_good=np.ones(size, bool) if good is None else np.array(good),
    )


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_row_of_the_documentation(tmp_path, end):
    track = read_ins(write(tmp_path, INS_HEADER, ROW, end=end))
    assert track.timestamps.tolist() == [1547213094015673]
    assert track.positions_m.tolist() == [[620057.410348, 5735848.358489]]
    assert track.yaw_rad.tolist() == [0.047108]
    assert track.is_good.tolist() == [True]
    assert track.zones == ("30U",)


def test_columns_are_read_by_name(tmp_path):
    names = INS_HEADER.split(",")
    shuffled = np.random.default_rng(0).permutation(len(names))
    header = ",".join(names[at] for at in shuffled) + ",extra"
    row = ",".join(ROW.split(",")[at] for at in shuffled) + ",7"
    track = read_ins(write(tmp_path, header, row))
    assert track.positions_m.tolist() == [[620057.410348, 5735848.358489]]


def test_rtk_with_nine_more_columns_and_without_status(tmp_path):
    more = ",".join(f"more{at}" for at in range(9))
    rows = [row + ",0" * 9 for row in rtk_rows(4)]
    track = read_rtk(write(tmp_path, f"{RTK_HEADER},{more}", *rows))
    assert track.is_good.all()
    assert quarter_turns(track) == 1
    with pytest.raises(DataError, match="no column ins_status"):
        read_ins(write(tmp_path, RTK_HEADER, *rtk_rows(1)))


def test_gps_has_no_yaw(tmp_path):
    header = "timestamp,num_satellites,northing,easting,utm_zone"
    track = read_gps(write(tmp_path, header, "1,9,5735000.0,620000.0,30U"))
    assert track.yaw_rad.tolist() == [0.0]


def test_rows_of_nan_reversed_and_repeated_rows_are_counted(tmp_path):
    rows = ins_rows(4)
    rows[3] = rows[3].replace(rows[3].split(",")[6], "nan")
    rows[5] = rows[5].replace(rows[5].split(",")[-1], "")
    rows = [rows[1], rows[0], *rows[2:], rows[2]]
    track = read_ins(write(tmp_path, INS_HEADER, *rows))
    assert (track.num_nan, track.num_reversed, track.num_repeated) == (2, 2, 1)
    assert (np.diff(track.timestamps) > 0).all()
    np.testing.assert_allclose(track.positions_m, position(track.timestamps), atol=1e-6)


def test_swapped_axes_are_exchanged_and_told(tmp_path):
    header = INS_HEADER.replace("northing,easting", "easting,northing")
    track = read_ins(write(tmp_path, header, ROW))
    assert track.swapped
    assert track.positions_m.tolist() == [[620057.410348, 5735848.358489]]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["<!DOCTYPE html>", "<title>Log in</title>"], "web page"),
        ([INS_HEADER], "no rows"),
        ([""], "no column"),
        ([INS_HEADER, ROW[:60]], "Row #1: Expected 15 columns"),
        ([INS_HEADER, ROW, ROW.replace("620057.410348", "east")], "Row #2.*'east'"),
        ([INS_HEADER, ROW.replace("1547213094015673", "-5")], "row 1: timestamp -5"),
        ([INS_HEADER, ROW.replace("1547213094015673", "9" * 30)], "int64"),
        ([INS_HEADER + ",yaw", ROW + ",1"], "'yaw' twice"),
        (
            [INS_HEADER, ROW.replace("620057.410348", "1e300")],
            "out of range for metres on earth",
        ),
    ],
)
def test_malformed_tables_say_what_and_where(tmp_path, lines, said):
    path = write(tmp_path, *lines)
    with pytest.raises(DataError, match=said) as caught:
        read_ins(path)
    assert str(path) in str(caught.value)


def test_degrees_are_refused(tmp_path):
    rows = [f"{at},INS_SOLUTION_GOOD,51.7{at},-1.2{at},0.0" for at in range(3)]
    header = "timestamp,ins_status,northing,easting,yaw"
    with pytest.raises(DataError, match="degrees"):
        read_ins(write(tmp_path, header, *rows))


def test_timestamps_in_any_order(tmp_path):
    path = write(tmp_path, "30 2", "10 1", "20 1", "", "20 1", name="stereo.timestamps")
    found = read_timestamps(path)
    assert found.timestamps.tolist() == [10, 20, 30]
    assert found.chunks.tolist() == [1, 1, 2]
    assert (found.num_reversed, found.num_repeated) == (1, 1)


@pytest.mark.parametrize(
    "line", ["10", "10 1 2", "-10 1", "1.5 1", "10 x", "1" * 30 + " 1", "\u0661 1"]
)
def test_a_line_that_is_no_frame_is_named(tmp_path, line):
    path = write(tmp_path, "5 1", line, name="stereo.timestamps")
    with pytest.raises(DataError, match="line 2"):
        read_timestamps(path)


@pytest.mark.parametrize(
    "text", ["sun,overcast", "- sun\n- overcast", "tags: [sun, overcast]", "Sun\r\nOvercast"]
)
def test_tags_in_every_form(tmp_path, text):
    assert read_tags(write(tmp_path, text, name="tags.csv")) == ("sun", "overcast")


def test_tags_that_are_none(tmp_path):
    with pytest.raises(DataError, match="not a tag"):
        read_tags(write(tmp_path, "12;!!", name="tags.csv"))


# Each with something to drop: a row again, a row of NaN, a word again.
SOUND = {
    read_timestamps: "30 2\n10 1\n20 1\n20 1\n",
    read_ins: "\n".join([INS_HEADER, *ins_rows(0, yaw=math.nan), *ins_rows(1)]),
    read_rtk: "\n".join([RTK_HEADER, *rtk_rows(0, yaw=math.nan), *rtk_rows(1)]),
    read_tags: "sun\nclouds,Sun\n",
}


@pytest.mark.parametrize("reader", SOUND)
@settings(max_examples=60, deadline=None)
@given(
    data=st.binary(max_size=300) | st.text("12 ,.-\nNaf", max_size=20).map(str.encode),
    keep=st.integers(0, 400),
)
def test_any_bytes_are_read_or_refused(reader, data, keep, tmp_path_factory):
    sound = SOUND[reader].encode()
    path = tmp_path_factory.mktemp("any") / "table"
    path.write_bytes(sound[:keep] + data + sound[keep:])
    try:
        found = reader(path)
    except DataError as error:
        found = error
    if isinstance(found, DataError):
        assert str(path) in str(found)
        return
    if reader is read_tags:
        assert all(word == word.lower() and word for word in found)
        assert len(set(found)) == len(found)
        return
    assert (np.diff(found.timestamps) > 0).all()
    if reader is read_timestamps:
        assert len(found.chunks) == len(found.timestamps) > 0
    else:
        assert found.positions_m.shape == (len(found), 2)
        assert len(found.yaw_rad) == len(found.is_good) == len(found)
        assert np.isfinite(found.positions_m).all()
        assert np.isfinite(found.yaw_rad).all()


def test_positions_between_rows_are_those_of_the_drive(tmp_path):
    track = read_ins(write(tmp_path, INS_HEADER, *ins_rows(40)))
    stamps = START + np.random.default_rng(1).integers(0, 10_000_000, 500)
    poses = interpolate(track, stamps, 1.0)
    assert (poses.status == PoseStatus.GOOD).all()
    np.testing.assert_allclose(poses.positions_m, position(stamps), atol=1e-6)
    np.testing.assert_allclose(poses.headings_rad, HEADING, atol=1e-6)


def test_yaw_turns_the_shorter_way_across_the_wrap():
    track = track_of([0, 1000], [[0, 0], [0, 10]], yaw=[math.pi - 0.1, -math.pi + 0.3])
    headings = interpolate(track, np.array([0, 250, 500, 1000]), 1.0).headings_rad
    expected = [math.pi - 0.1, math.pi, -math.pi + 0.1, -math.pi + 0.3]
    np.testing.assert_allclose(headings, expected, atol=1e-12)
    assert ((headings > -math.pi) & (headings <= math.pi)).all()


def test_before_after_gaps_and_bad_rows_give_no_pose():
    stamps = [0, 1_000_000, 4_000_000, 5_000_000, 6_000_000]
    good = [True, True, True, False, True]
    track = track_of(stamps, np.zeros((5, 2)), good=good)
    asked = np.array(
        [-1, 0, 500_000, 2_000_000, 4_000_000, 4_500_000, 5_000_000, 6_000_000, 6_000_001]
    )
    status = [PoseStatus(code).name for code in interpolate(track, asked, 1.0).status]
    assert status == [
        *("OUTSIDE", "GOOD", "GOOD", "GAP", "GOOD", "BAD_STATUS", "BAD_STATUS", "GOOD"),
        "OUTSIDE",
    ]
    assert np.isnan(interpolate(track, asked, 1.0).positions_m[0]).all()


def test_a_track_without_rows_gives_no_pose():
    poses = interpolate(track_of([], []), np.array([1, 2]), 1.0)
    assert (poses.status == PoseStatus.OUTSIDE).all()


@pytest.mark.parametrize("turns", range(4))
def test_the_zero_of_a_yaw_is_told_by_the_motion(turns):
    angle = np.linspace(0, 6 * math.pi, 400)
    circle = 30 * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    course = angle + math.pi / 2
    track = track_of(np.arange(400), circle, yaw=course - turns * math.pi / 2)
    assert quarter_turns(track) == turns


def test_a_car_that_stands_tells_no_zero():
    assert quarter_turns(track_of(range(9), np.zeros((9, 2)))) is None
    random = np.random.default_rng(0).uniform(-3, 3, 400)
    line = np.stack([np.arange(400.0), np.zeros(400)], axis=1)
    assert quarter_turns(track_of(range(400), line, yaw=random)) is None


def test_arc_length():
    assert arc_length_m(np.array([[0.0, 0], [3, 4], [3, 5]])).tolist() == [0, 5, 6]
    assert arc_length_m(np.empty((0, 2))).tolist() == []


@pytest.mark.parametrize(
    ("tags", "condition"),
    [
        (("rain", "night"), "night"),
        (("sun", "clouds"), "sun"),
        (("clouds",), "overcast"),
        (("detour",), "unknown"),
    ],
)
def test_the_weightiest_tag_is_the_condition(tags, condition):
    assert condition_of("2015-01-01-00-00-00", tags) == condition
    assert condition_of("2014-12-17-18-18-43", ()) == "night"


def test_our_regions_are_apart_and_within_the_papers_raster(tmp_path):
    cut, note = find_regions(None, tmp_path)
    assert "own" in note
    east, north = np.meshgrid(np.arange(619_500.5, 620_700), np.arange(5_734_680.5, 5_736_480))
    points = np.stack([east.ravel(), north.ravel()], axis=1)
    codes = cut.codes("", np.zeros(len(points), np.int64), points)
    spans = [points[codes == code, 1] for code in range(3)]
    assert spans[2].max() + 39 < spans[1].min()
    assert spans[1].max() + 39 < spans[0].min()
    assert 0.5 < (codes == 0).mean() < 0.8
    assert cut.path == OURS


def test_polygons_in_raw_metres_are_decided_to_the_millimetre(tmp_path):
    path = write(
        tmp_path, "test", "620000,5735000", "620010 5735000 # corner", "620010 5735010",
        name="regions.txt",
    )  # fmt: skip
    inside = [[620_009.0, 5_735_008.999], [620_009.0, 5_735_009.001], [620_011.0, 5_735_001.0]]
    codes = read_polygons(path).codes("", np.zeros(3, np.int64), np.array(inside))
    assert codes.tolist() == [2, -1, -1]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["620000 5735000"], "line 1"),
        (["test", "1 2", "3 x"], "line 3"),
        (["test", "1 2", "3 4"], "fewer than 3"),
        (["# nothing"], "no polygon"),
        (["tset", "1 2"], "one of train, validation, test"),
    ],
)
def test_malformed_regions_say_where(tmp_path, lines, said):
    with pytest.raises(DataError, match=said):
        read_polygons(write(tmp_path, *lines, name="regions.txt"))


def test_lists_of_images(tmp_path):
    date = "2014-12-02-15-30-08"
    (tmp_path / "train.txt").write_text(f"{date} 10\n")
    (tmp_path / "test.txt").write_text(f"{date}/stereo/centre/30.png\n\n")
    lists = read_lists(tmp_path)
    stamps = np.array([5, 10, 30, 40])
    assert lists.codes(date, stamps, np.zeros((4, 2))).tolist() == [-1, 0, 2, -1]
    assert lists.codes("2015-01-01-00-00-00", stamps, np.zeros((4, 2))).tolist() == [-1] * 4
    (tmp_path / "validation.txt").write_text(f"{date} 10\n")
    with pytest.raises(DataError, match=r"is in train\.txt too"):
        read_lists(tmp_path)
