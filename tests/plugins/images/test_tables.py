"""Tables of the user's own images: what is read, and what every fault says."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcore.errors import DataError, MlcoreError
from mlcore.options import parse_run
from mlcore.registry.discovery import Registry
from mlcore_images.checks.positions import read_headings, read_positions
from mlcore_images.config import ImagesConfig
from mlcore_images.readers.captures import check_times, times_of
from mlcore_images.readers.layouts import find_listing


def listing_of(folder, text, name="positions.csv", **options):
    (folder / name).write_text(text, encoding="utf-8")
    return find_listing(ImagesConfig(root=folder, table=folder / name, **options))


def positions_of(folder, text, **options):
    located = read_positions(listing_of(folder, text), ImagesConfig(**options))
    return located.positions_m, located.findings


def fault_of(folder, text, **options):
    with pytest.raises(DataError) as caught:
        positions_of(folder, text, **options)
    return str(caught.value)


def table(header, *rows):
    return "\n".join((header, *rows)) + "\n"


METRES = "path,easting_m,northing_m"
DEGREES = "path,latitude,longitude"


def test_metres_and_extra_columns_are_read(tmp_path):
    text = table(f"{METRES},mood", "a.jpg,1.5,-2,good", "b.jpg,3e2,4,bad")
    positions_m, notes = positions_of(tmp_path, text)
    np.testing.assert_array_equal(positions_m, [[1.5, -2.0], [300.0, 4.0]])
    assert notes == ()


def test_a_local_straight_route_is_no_degrees(tmp_path):
    rows = [f"{i:04}.jpg,{i}.0,0.0" for i in range(101)]
    positions_m, _ = positions_of(tmp_path, table(METRES, *rows))
    np.testing.assert_array_equal(positions_m[:, 0], np.arange(101.0))


def test_byte_order_mark_blank_lines_and_windows_line_ends(tmp_path):
    text = "\ufeffpath,easting_m,northing_m\r\na.jpg,1,2\r\n\r\nb.jpg,3,4\r\n"
    positions_m, _ = positions_of(tmp_path, text)
    np.testing.assert_array_equal(positions_m, [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("north", "northing_m 'north' is not a number"),
        ("'5", """northing_m "'5" is not a number"""),
        ("nan", "northing_m nan is not finite"),
        ("-inf", "northing_m -inf is not finite"),
        ("", "northing_m is empty"),
        ("1e9", "northing_m 1000000000.0 is too large for metres"),
    ],
)
def test_a_bad_number_is_named_with_its_line(tmp_path, value, said):
    text = table(METRES, "a.jpg,1,2", "", f"b.jpg,3,{value}", "c.jpg,5,6")
    message = fault_of(tmp_path, text)
    assert f"positions.csv, line 4: {said}; " in message


def test_further_bad_rows_are_counted(tmp_path):
    text = table(METRES, *(f"{i}.jpg,x,0" for i in range(9)))
    message = fault_of(tmp_path, text)
    assert "(as in 8 more: line 3, line 4, line 5, line 6, line 7, ...)" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "positions.csv is empty"),
        ("\n\n", "positions.csv is empty"),
        ("path,easting_m,northing_m\n", "lists no image"),
        (table("file,easting_m,northing_m", "a.jpg,1,2"), "no column 'path'"),
        (table("path,easting,northing_m", "a.jpg,1,2"), "'easting_m'; did you mean 'easting'?"),
        (table("path,x,y", "a.jpg,1,2"), "its columns: path, x, y"),
        (table("path,latitude", "a.jpg,1"), "no column 'longitude'"),
        (table("path,easting_m,easting_m", "a.jpg,1,2"), "'easting_m' appears twice"),
        (table(METRES, "a.jpg,1"), "line 2 has 2 values, but the header has 3"),
        (table(METRES, ",1,2"), "line 2: path is empty"),
        (
            table(METRES, "a.jpg,1,2", "b.jpg,3,4", "a.jpg,5,6"),
            "line 2: path 'a.jpg' is listed 2 times; 1 paths",
        ),
    ],
)
def test_malformed_tables_say_what_is_wrong(tmp_path, text, said):
    assert said in fault_of(tmp_path, text)


def test_text_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "positions.csv").write_bytes(b"path,easting_m,northing_m\n\xe9.jpg,1,2\n")
    with pytest.raises(DataError, match="cannot be read as CSV"):
        find_listing(ImagesConfig(root=tmp_path))


def test_degrees_in_columns_of_metres_are_refused(tmp_path):
    rows = [f"{i}.jpg,{14.42 + i * 1.37e-5},{50.1 + i * 1.13e-5}" for i in range(50)]
    message = fault_of(tmp_path, table(METRES, *rows))
    assert "'easting_m' is 14.42 to 14.42067, which looks like degrees" in message
    assert "latitude and longitude" in message


def test_one_column_in_degrees_beside_utm_is_refused(tmp_path):
    rows = [f"{i}.jpg,{-1.26 - i * 1.37e-5},{5735000 + i}" for i in range(50)]
    assert "'easting_m' is -1.260671 to -1.26, which looks like degrees" in fault_of(
        tmp_path, table(METRES, *rows)
    )


def test_utm_axes_in_each_others_place_are_refused_and_can_be_swapped(tmp_path):
    text = table(METRES, "a.jpg,5735000,620000", "b.jpg,5735010,620001")
    assert "set dataset.swap_axes = true" in fault_of(tmp_path, text)
    positions_m, _ = positions_of(tmp_path, text, swap_axes=True)
    np.testing.assert_array_equal(positions_m, [[620000, 5735000], [620001, 5735010]])
    right = table(METRES, "a.jpg,620000,5735000")
    assert "set dataset.swap_axes = false" in fault_of(tmp_path, right, swap_axes=True)


def test_degrees_are_projected_to_the_known_utm_position(tmp_path):
    # Oxford, the example row of the RobotCar documentation.
    text = table(DEGREES, "a.png,51.760642,-1.260381")
    positions_m, notes = positions_of(tmp_path, text)
    np.testing.assert_allclose(positions_m, [[620057.410348, 5735848.358489]], atol=0.1)
    assert [*map(str, notes)] == ["latitude and longitude are projected to UTM zone 30N"]


@pytest.mark.parametrize("middle_deg", [12.0, -180.0, 179.9999])
def test_data_across_an_edge_of_zones_stay_in_one_frame(tmp_path, middle_deg):
    longitudes = (middle_deg + np.linspace(-0.01, 0.01, 21) + 180.0) % 360.0 - 180.0
    rows = [f"{i}.jpg,-17.0,{deg:.9f}" for i, deg in enumerate(longitudes)]
    positions_m, _ = positions_of(tmp_path, table(DEGREES, *rows))
    steps_m = np.linalg.norm(np.diff(positions_m, axis=0), axis=1)
    # 0.001 degrees of longitude on WGS 84 at 17 degrees south, within UTM's scale error.
    radius_m = 6378137.0 / np.sqrt(1 - 0.00669437999 * np.sin(np.radians(17.0)) ** 2)
    np.testing.assert_allclose(
        steps_m, np.radians(0.001) * radius_m * np.cos(np.radians(17.0)), rtol=1.5e-3
    )


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["a.jpg,50,14", "b.jpg,95,14"], "line 3: latitude 95.0 is not within -90 to 90"),
        (["a.jpg,50,14", "b.jpg,50,190"], "line 3: longitude 190.0 is not within"),
        (["a.jpg,-122.4,37.7", "b.jpg,-122.5,37.8"], "latitude and longitude are swapped"),
        (["a.jpg,5735000,620000"], "name the columns easting_m and northing_m"),
        (["a.jpg,89,14"], "outside UTM"),
        (["a.jpg,0.872665,0.244346", "b.jpg,0.872666,0.244346"], "looks like radians"),
        (["a.jpg,-0.59,2.639", "b.jpg,-0.59,2.638"], "looks like radians"),
    ],
)
def test_impossible_degrees_are_refused(tmp_path, rows, said):
    assert said in fault_of(tmp_path, table(DEGREES, *rows))


def test_data_of_several_cities_are_noted(tmp_path):
    text = table(DEGREES, "a.jpg,50,0", "b.jpg,50,30")
    _, notes = positions_of(tmp_path, text, region="none")
    assert any("from the central meridian of UTM zone" in str(note) for note in notes)


def test_a_position_on_the_other_side_of_the_globe_is_named(tmp_path):
    rows = [f"{i}.jpg,-33.9,151.2" for i in range(40)]
    message = fault_of(tmp_path, table(DEGREES, *rows, "z.jpg,-33.9,-151.2"))
    assert "line 42: longitude -151.2 is too far from UTM zone 56 of most images" in message


def test_a_row_at_null_island_is_refused(tmp_path):
    message = fault_of(tmp_path, table(DEGREES, "a.jpg,50,14", "b.jpg,0,0"))
    assert "line 3: latitude 0.0 is 0 and longitude is 0" in message


def test_headings_are_clockwise_from_north(tmp_path):
    text = table(f"{METRES},heading_deg", "a.jpg,0,0,270", "b.jpg,1,0,-180", "c.jpg,2,0,10")
    headings_rad, notes = read_headings(listing_of(tmp_path, text), "clockwise-from-north")
    np.testing.assert_allclose(np.degrees(headings_rad), [-90, 180, 10])
    assert notes == ()
    headings_rad, _ = read_headings(listing_of(tmp_path, text), "counterclockwise-from-east")
    np.testing.assert_allclose(np.degrees(headings_rad), [180, -90, 80])


def test_headings_of_some_images_only_are_not_used(tmp_path):
    text = table(f"{METRES},heading_rad", "a.jpg,0,0,1", "b.jpg,1,0,")
    headings_rad, notes = read_headings(listing_of(tmp_path, text), "clockwise-from-north")
    assert headings_rad is None
    assert "1 of 2 images have no heading (line 3 the first)" in str(notes[0])


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("heading_rad", "90", "name the column heading_deg"),
        ("heading_deg", "999", "999.0 is not a heading"),
        ("heading_deg", "nan", "not finite"),
    ],
)
def test_impossible_headings_are_refused(tmp_path, column, value, said):
    listing = listing_of(tmp_path, table(f"{METRES},{column}", f"a.jpg,0,0,{value}"))
    with pytest.raises(DataError, match=said):
        read_headings(listing, "clockwise-from-north")


def test_radians_in_a_column_of_degrees_are_noted(tmp_path):
    rows = [f"{i}.jpg,{i},0,{i * 0.1:.1f}" for i in range(60)]
    listing = listing_of(tmp_path, table(f"{METRES},heading_deg", *rows))
    _, notes = read_headings(listing, "clockwise-from-north")
    assert "if these are radians, name the column heading_rad" in str(notes[0])


def test_parquet_is_read_like_csv(tmp_path):
    columns = {
        "path": pa.array(["a.jpg", "b.jpg"]).dictionary_encode(),
        "easting_m": pa.array([1, 2], pa.int32()),
        "northing_m": pa.array([0.5, 0.25], pa.float32()),
    }
    pq.write_table(pa.table(columns), tmp_path / "positions.parquet")
    listing = find_listing(ImagesConfig(root=tmp_path))
    assert listing.layout == "Parquet"
    positions_m = read_positions(listing, ImagesConfig()).positions_m
    np.testing.assert_array_equal(positions_m, [[1, 0.5], [2, 0.25]])


def test_faults_of_parquet_name_the_row(tmp_path):
    columns = {"path": ["a.jpg", "b.jpg"], "easting_m": [1.0, None], "northing_m": [0.0, 0.0]}
    pq.write_table(pa.table(columns), tmp_path / "positions.parquet")
    listing = find_listing(ImagesConfig(root=tmp_path))
    with pytest.raises(DataError, match=r"positions.parquet, row 2: easting_m is empty"):
        read_positions(listing, ImagesConfig())


def test_a_csv_called_parquet_is_refused(tmp_path):
    (tmp_path / "positions.parquet").write_text("path,easting_m,northing_m\n")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        find_listing(ImagesConfig(root=tmp_path))


finite = st.floats(-1e7, 1e7, allow_nan=False)
fuzz = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@fuzz
@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=20))
def test_positions_come_back_exactly_or_are_refused(tmp_path, values):
    rows = [f"{i}.jpg,{easting!r},{northing!r}" for i, (easting, northing) in enumerate(values)]
    try:
        positions_m, _ = positions_of(tmp_path, table(METRES, *rows))
    except DataError:
        return
    np.testing.assert_array_equal(positions_m, values)


ROW = st.lists(
    st.one_of(
        finite.map(repr),
        st.sampled_from(["nan", "", "1,5", '"', "\x00", "14.4207651"]),
        st.text(),
    ),
    max_size=5,
).map(",".join)


@fuzz
@given(st.sampled_from([METRES, DEGREES, f"{METRES},heading_rad", "path", ""]), st.lists(ROW))
def test_any_table_is_read_or_refused(tmp_path, header, rows):
    (tmp_path / "positions.csv").write_bytes(
        table(header, *rows).encode("utf-8", errors="surrogatepass")
    )
    try:
        listing = find_listing(ImagesConfig(root=tmp_path))
        positions_m = read_positions(listing, ImagesConfig()).positions_m
        headings_rad, _ = read_headings(listing, "clockwise-from-north")
    except MlcoreError:
        return
    assert positions_m.shape == (len(listing), 2)
    assert np.isfinite(positions_m).all()
    assert headings_rad is None or (np.abs(headings_rad) <= np.pi).all()


@fuzz
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(tmp_path, data):
    for name in ("positions.csv", "positions.parquet"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError):
            find_listing(ImagesConfig(root=tmp_path, table=tmp_path / name))


def test_headings_beyond_a_turn_are_wrapped_and_counted(tmp_path):
    """GSV-Cities has them up to 731 degrees."""
    rows = [f"{row}.jpg,{row},0,{deg}" for row, deg in enumerate((244, 421, 731, -420.5, 360))]
    listing = listing_of(tmp_path, table(f"{METRES},heading_deg", *rows))
    headings_rad, (found,) = read_headings(listing, "clockwise-from-north")
    np.testing.assert_allclose(np.degrees(headings_rad), [-116, 61, 11, -60.5, 0], atol=1e-9)
    assert (found.count, found.examples) == (3, ("line 3", "line 4", "line 5"))
    assert "wrapped" in found.message


@pytest.mark.parametrize(
    ("stamps", "seconds"),
    [
        (("1417534208000000", "1417534208125000"), 0.125),
        (("1417534208000", "1417534208125"), 0.125),
        (("1417534208", "1417534210"), 2.0),
        (("1417534208000000000", "1417534208125000000"), 0.125),
        (("0.5", "0.625"), 0.125),
        (("2014:12:02 15:30:08", "2014:12:02 15:30:09"), 1.0),
        (("2014-12-02T15:30:08.25Z", "2014-12-02T15:30:08.50Z"), 0.25),
        (("20141202_153008", "20141202_153010"), 2.0),
        (("20141202153008", "20141202153010"), 2.0),
        (("17", "18"), np.nan),  # numbers of frames
        (("201410", "201411"), np.nan),  # year and month
        (("morning", "noon"), np.nan),
    ],
)
def test_timestamps_are_seconds_whatever_their_form(tmp_path, stamps, seconds):
    rows = [f"{row}.jpg,{row},0,{stamp}" for row, stamp in enumerate(stamps)]
    times_s = times_of(listing_of(tmp_path, table(f"{METRES},timestamp", *rows)))
    np.testing.assert_allclose(np.diff(times_s), [seconds], atol=1e-6)


@pytest.mark.parametrize(
    ("stamps", "warned"),
    [
        (("31.12.2023 10:00", "01.02.2024 10:00"), 2),
        (("12/31/2023", "2024-02-01"), 1),
        (("nan", "2"), 1),
        (("17", "18"), 0),
        (("2023-12-31 10:00", "2024-02-01 10:00"), 0),
        (("20141202_153008", "20141202_153010"), 0),
        (("", "2024-02-01 10:00"), 0),
    ],
)
def test_timestamps_that_are_not_understood_are_named(tmp_path, stamps, warned):
    rows = [f"{row}.jpg,{row},0,{stamp}" for row, stamp in enumerate(stamps)]
    listing = listing_of(tmp_path, table(f"{METRES},timestamp", *rows))
    found = check_times(listing, times_of(listing))
    assert [(one.severity, one.count) for one in found] == [("warning", warned)] * bool(warned)
    if warned:
        assert "begin with the year" in found[0].message
        assert repr(stamps[0]) in found[0].message


@pytest.mark.parametrize("ends", [",", ",,", ",,,"])
def test_empty_columns_of_a_spreadsheet_are_not_read(tmp_path, ends):
    text = table(METRES + ends, f"a.jpg,1,2{ends}", f"b.jpg,3,4{ends}")
    positions_m, _ = positions_of(tmp_path, text)
    np.testing.assert_array_equal(positions_m, [[1, 2], [3, 4]])


def test_the_table_is_looked_for_in_the_root(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    words = ["--dataset", "images", "--dataset.root", "data", "--dataset.table", "mine.csv"]
    words += ["--loss", "proposed"]
    options = parse_run(words, Registry.discover()).dataset.options
    assert options.table == tmp_path / "data" / "mine.csv"
    assert options.table.is_absolute()
