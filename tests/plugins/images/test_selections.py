"""Which images of a table are in which split, as references or queries."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcore.errors import ConfigError, DataError
from mlcore_images.config import ImagesConfig
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
        (
            {"train": "frame=0..3", "test": "frame=4..5", "queries": "frame=0..9"},
            "split 'train' has 8 queries and no references",
        ),
    ],
)
def test_selections_that_cannot_work_say_why(route, options, said):
    assert said in error_of(route, **options)


@pytest.mark.parametrize("expression", ["frame", "=3", "frame=", "frame=0..3&", "frame=3..0"])
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
        clauses = parse("train", expression)
    except ConfigError:
        return
    assert expression.strip() == "*" or all(c.column and c.value for c in clauses)
