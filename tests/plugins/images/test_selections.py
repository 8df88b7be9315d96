"""Which images of a table are in which split, as references or queries."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcore.errors import ConfigError, DataError
from mlcore_images.config import ImagesConfig
from mlcore_images.readers.captures import period_s
from mlcore_images.readers.layouts import find_listing
from mlcore_images.selection import parse, select
from tests.support.image_folders import SEASONS, build, error_of, save


def test_a_flat_table_is_split_by_selections(route):
    data = build(route, **SEASONS)
    assert data.train.references.index.tolist() == [0, 1, 2, 3]
    assert data.train.queries.index.tolist() == [6, 7, 8, 9]
    assert data.test.references.index.tolist() == [4, 5]
    assert data.test.queries.index.tolist() == [10, 11]
    assert data.test.queries.positions_m.tolist() == [[4.0, 0.0], [5.0, 0.0]]
    assert len(data.validation.references) == len(data.validation.queries) == 0
    table = data.test.queries
    assert [table.conditions[code] for code in table.condition] == ["snow", "snow"]
    assert [table.traversals[code] for code in table.traversal] == ["snow", "snow"]
    assert data.image_name(11) == "snow/5.png"
    assert data.load_image(11)[:, 0, 0].tolist() == [5, 0, 0]
    assert data.load_image(11).shape == (3, 6, 8)


def test_what_is_in_no_split_is_said(route):
    data = build(route, train="frame=0..2&condition=autumn", test="frame=5..")
    assert any("7 images are in no split" in note for note in data.notes)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "does not say which images"),
        ({"train": "frame=0..3", "test": "frame=3..5"}, "the first at line 5, are selected by"),
        ({"train": "frames=0..3"}, "dataset.train is 'frames=0..3'"),
        ({"train": "frames=0..3"}, "no column 'frames'; did you mean 'frame'?"),
        ({"train": "frame=7..9"}, "selects none of the 12 images"),
        ({"train": "condition=rain"}, "condition is one of 'autumn', 'snow'"),
        ({"train": "condition=0..1"}, "line 2: condition 'autumn' is not a number"),
        ({"train": "condition=autum"}, "is one of 'autumn', 'snow'; did you mean 'autumn'?"),
        (
            {"train": "frame=0 | condition=sno*w?"},
            "of which 'condition=sno*w?' selects none of the 12 images",
        ),
        ({"train": "frame=0 | conditon=snow"}, "no column 'conditon'; did you mean"),
        ({"train": "frame=2024-05..2024-06"}, "line 2: frame '0' is not a date"),
        (
            {"train": "frame=0..3", "test": "frame=4..5", "queries": "frame=0..9"},
            "split 'train' has 8 queries and no references",
        ),
    ],
)
def test_selections_that_cannot_work_say_why(route, options, said):
    assert said in error_of(route, **options)


@pytest.mark.parametrize(
    "expression",
    [
        "frame",
        "=3",
        "frame=",
        "frame=0..3&",
        "frame=3..0",
        "frame=1|",
        "frame=1||frame=2",
        "frame=1|(frame=2)&",
        "timestamp=2024-05..2024-04",
    ],
)
def test_malformed_selections_are_configuration_errors(route, expression):
    assert f"dataset.train is {expression!r}" in error_of(route, ConfigError, train=expression)


def test_the_split_and_role_columns_are_used(tmp_path):
    save(tmp_path / "a.jpg")
    (tmp_path / "positions.csv").write_text(
        "path,easting_m,northing_m,split,role\n"
        "a.jpg,0,0,Train,database\nb.jpg,1,0,train,query\nc.jpg,2,0,val,\n"
        "d.jpg,3,0,test,references\ne.jpg,4,0,test,queries\nf.jpg,5,0,,query\n"
    )
    data = build(tmp_path)
    assert data.train.references.index.tolist() == [0]
    assert data.train.queries.index.tolist() == [1]
    assert data.test.queries.index.tolist() == [4]
    assert any("1 images are in no split" in note for note in data.notes)
    assert any("1 images are neither" in note for note in data.notes)
    assert build(tmp_path, train="split=val", references="*").train.references.index == [2]


def test_an_unknown_split_is_refused(tmp_path):
    text = "path,easting_m,northing_m,split\na.jpg,0,0,train\nb.jpg,1,0,learn\n"
    (tmp_path / "positions.csv").write_text(text)
    said = error_of(tmp_path)
    assert "line 3: split 'learn' is unknown; write one of train, val" in said


def test_a_split_without_queries_says_so_when_it_is_used(route):
    data = build(route, train="frame=0..3", test="frame=4..5")
    assert len(data.train.references) == 8
    with pytest.raises(DataError, match=r"split 'test' of .* has no queries"):
        _ = data.test
    only_test = build(route, test="*", queries="condition=snow")
    with pytest.raises(DataError, match=r"split 'train' of .* has no references"):
        _ = only_test.train


@pytest.mark.parametrize(
    "stamps", [["30", "4", "200"], ["2024-02-01", "2024-01-01", "2024-03-01"]]
)
def test_images_of_a_traversal_are_in_the_order_of_time(tmp_path, stamps):
    rows = [f"{i}.png,{i},0,day,{stamp}" for i, stamp in enumerate(stamps)]
    rows.append("z.png,9,0,night,1")
    save(tmp_path / "0.png")
    (tmp_path / "positions.csv").write_text(
        "\n".join(["path,easting_m,northing_m,traversal,timestamp", *rows])
    )
    table = build(tmp_path, train="*").train.references
    assert table.index.tolist() == [1, 0, 2, 3]
    assert table.traversals == ("day", "night")


def selected(folder, expression):
    listing = find_listing(ImagesConfig(root=folder, train=expression))
    return np.flatnonzero(select(listing, "train", expression)).tolist()


@pytest.mark.parametrize(
    ("expression", "rows"),
    [
        ("frame=0 | frame=2", [0, 2, 6, 8]),
        ("condition=autumn & frame=0..1 | condition=snow & frame=5", [0, 1, 11]),
        ("condition=s*", range(6, 12)),
        ("condition=*", range(12)),
        ("condition=?n?w & frame=1", [7]),
        ("path=*/3.png", [3, 9]),
        ("path=autumn/?.png & frame=..1 | *", range(12)),
        ("folder=aut*", range(6)),
    ],
)
def test_or_and_wildcards(route, expression, rows):
    assert selected(route, expression) == list(rows)


def test_letters_of_patterns_are_text(tmp_path):
    save(tmp_path / "a.png")
    values = ["a.b", "axb", "a+b", "(a)", "a [b] c"]
    rows = [f"{i}.png,{i},0,{value}" for i, value in enumerate(values)]
    (tmp_path / "positions.csv").write_text("path,easting_m,northing_m,tag\n" + "\n".join(rows))
    assert selected(tmp_path, "tag=a.*") == [0]
    assert selected(tmp_path, "tag=*+b") == [2]
    assert selected(tmp_path, "tag=(?)") == [3]
    assert selected(tmp_path, "tag=a [b]*") == [4]


STAMPS = {
    "EXIF": ["2023:12:31 23:59:59", "2024:05:01 00:00:00", "2024:05:31 23:59:30", "2025:01:01"],
    "ISO": [
        "2023-12-31T23:59:59Z",
        "2024-05-01",
        "2024-05-31T23:59:30+02:00",
        "2025-01-01 00:00",
    ],
    "seconds": ["1704067199", "1714521600", "1717199970", "1735689600"],
    "microseconds": [
        "1704067199000000",
        "1714521600000000",
        "1717199970000000",
        "1735689600000000",
    ],
    "digits": ["20231231235959", "20240501000000", "20240531235930", "20250101000000"],
}


@pytest.mark.parametrize("stamps", STAMPS.values(), ids=STAMPS)
def test_dates_of_every_form(tmp_path, stamps):
    save(tmp_path / "0.png")
    rows = [f"{i}.png,{i},0,{stamp}" for i, stamp in enumerate([*stamps, ""])]
    header = "path,easting_m,northing_m,timestamp\n"
    (tmp_path / "positions.csv").write_text(header + "\n".join(rows))
    for expression, expected in {
        "timestamp=2024-05": [1, 2],
        "timestamp=2024:05:31": [2],
        "timestamp=2024-05-31 23:59": [2],
        "timestamp=2024-05-31 23:59:30": [2],
        "timestamp=2024-05-31 23:59:30..": [2, 3],
        "timestamp=..2023-12": [0],
        "timestamp=2023-12-31..2024-05-01": [0, 1],
        "timestamp=2024-05-02..2025": [2, 3],
        "timestamp=2023-12 | timestamp=2025-01": [0, 3],
    }.items():
        assert selected(tmp_path, expression) == expected, expression


def test_a_year_is_a_date_only_among_dates(tmp_path):
    save(tmp_path / "0.png")
    rows = [f"{i}.png,{i},0,{2023 + i},{2023 + i}-06-01" for i in range(3)]
    header = "path,easting_m,northing_m,frame,day\n"
    (tmp_path / "positions.csv").write_text(header + "\n".join(rows))
    assert selected(tmp_path, "frame=2024") == selected(tmp_path, "day=2024") == [1]
    assert (
        selected(tmp_path, "frame=2024..2025") == selected(tmp_path, "day=2024..2025") == [1, 2]
    )


def test_a_text_among_dates_is_named(tmp_path):
    save(tmp_path / "0.png")
    text = "path,easting_m,northing_m,day\n0.png,0,0,2024-06-01\n1.png,1,0,in June\n"
    (tmp_path / "positions.csv").write_text(text)
    said = error_of(tmp_path, train="day=2024-01..2024-12")
    assert "line 3: day 'in June' is not a date; '2024-01..2024-12' is a range of dates" in said


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 4_000_000_000), st.integers(1, 6))
def test_periods_hold_what_they_name(seconds, parts):
    moment = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
    text = moment.isoformat(sep=" ")[: (4, 7, 10, 16, 16, 19)[parts - 1]]
    start, end = period_s(text)
    assert start <= seconds < end
    lasts = end - start
    shortest, longest = {
        1: (365, 366),
        2: (28, 31),
        3: (1, 1),
        4: (1 / 1440,) * 2,
        5: (1 / 1440,) * 2,
        6: (1 / 86400,) * 2,
    }[parts]
    assert 86400 * shortest - 1e-3 < lasts < 86400 * longest + 1e-3
    for outside in (start - 1, end):
        found = datetime.fromtimestamp(outside, UTC).strftime("%Y-%m-%d %H:%M:%S")
        assert not found.startswith(text)


@pytest.mark.parametrize(
    "text", ["2024-13", "2024-02-30", "24-05-01", "2024-05-01 25:00", "day"]
)
def test_what_is_no_date_has_no_period(text):
    assert period_s(text) is None


NUMBER = st.integers(-20, 20)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(low=NUMBER, high=NUMBER, season=st.sampled_from(["autumn", "snow"]))
def test_a_selection_is_what_a_loop_over_rows_selects(route, low, high, season):
    listing = find_listing(ImagesConfig(root=route, train="frame=0..1"))
    expression = f" condition={season} & frame = {low}..{high}"
    expected = [
        s == season and low <= frame <= high for s in ("autumn", "snow") for frame in range(6)
    ]
    try:
        assert select(listing, "train", expression).tolist() == expected
    except ConfigError:
        assert low > high
    except DataError:
        assert not any(expected)


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_any_selection_is_parsed_or_refused(expression):
    try:
        alternatives = parse("train", expression)
    except ConfigError:
        return
    for text, clauses in zip(expression.split("|"), alternatives, strict=True):
        assert text.strip() == "*" or clauses
        assert all(clause.column and clause.value for clause in clauses)
