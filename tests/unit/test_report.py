"""The report: what it holds, that names are text in it, and how large it gets."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from mlcore.evaluation.evaluate import evaluate_split
from mlcore.evaluation.gradcam import GradCamMatch
from mlcore.evaluation.projection import project
from mlcore.options.engine import EvaluationOptions
from mlcore.protocols import PlaceTable, Split
from mlcore.reporting.figures.positions import axis_names
from mlcore.reporting.report.charts import Line, line_chart, round_values
from mlcore.reporting.report.content import ReportContent
from mlcore.reporting.report.map import Frame, pictured_rows
from mlcore.reporting.report.page import report_text
from mlcore.reporting.report.results import validation
from mlcore.reporting.report.thumbnails import thumbnails

HOSTILE = "<img src=x onerror=alert(1)>\"'&</script><b>.jpg"


class Dataset:
    """Images of noise, the worst there is to compress, under names that mean harm."""

    def __init__(self, size=(48, 64)):
        self.size = size
        self.loaded = 0

    def load_image(self, index):
        self.loaded += 1
        generator = torch.Generator().manual_seed(index)
        return torch.randint(0, 256, (3, *self.size), dtype=torch.uint8, generator=generator)

    def image_name(self, index):
        return f"{index} {HOSTILE}"


def table(size, first, conditions):
    generator = np.random.default_rng(first)
    return PlaceTable(
        index=np.arange(size) + first,
        positions_m=generator.uniform(0, 90, (size, 2)) + np.array([620_000.0, 5_735_000.0]),
        traversal=np.zeros(size, dtype=np.int64),
        traversals=("t",),
        condition=np.arange(size) % len(conditions),
        conditions=conditions,
    )


def content(num_queries=40, conditions=("sun", f"rain {HOSTILE}"), size=(48, 64), **changes):
    generator = np.random.default_rng(0)
    split = Split(
        references=table(25, 10_000, ("c",)), queries=table(num_queries, 0, conditions)
    )
    references = generator.normal(size=(25, 6)).astype(np.float32)
    queries = generator.normal(size=(num_queries, 6)).astype(np.float32)
    results = [
        evaluate_split(
            references, queries + shift, split, EvaluationOptions(), name=name,
            data_fingerprint="data-1",
        )
        for shift, name in ((0.5, "untrained"), (0.0, "trained"))
    ]  # fmt: skip
    heat = np.eye(3, dtype=np.float32)
    last = results[-1]
    given = {
        "title": f"run {HOSTILE}",
        "config": f'seed = 0\nroot = "{HOSTILE}"',
        "environment": {"command": HOSTILE, "versions": {"torch": "2"}, "notes": [HOSTILE]},
        "metrics": [{"step": 10 * n, "loss": 1 / n, "same": 0.0} for n in (1, 2, 3)],
        "results": results,
        "split": split,
        "dataset": Dataset(size),
        "within_m": 10.0,
        "gradcam": [
            GradCamMatch(
                query=int(last.query_index[0]), reference=int(last.reference_index[0]),
                query_map=heat, reference_map=0 * heat, distance_m=3.0, embedding_distance=0.5,
            )
        ],
        "projections": [("trained", project(queries, method="pca"))],
    }  # fmt: skip
    return ReportContent(**{**given, **changes})


class Tags(HTMLParser):
    """Collects elements and text, as a browser would see them."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def data_of(text):
    found = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL
    )
    return json.loads(found[1])


def test_names_are_text():
    text = report_text(content())
    tags = Tags(text)
    assert len(tags.of("script")) == 2
    assert not tags.of("b")
    for attributes in tags.of("img"):
        assert "onerror" not in attributes
        assert attributes.get("src", "data:image/jpeg").startswith("data:image/")
    assert "alert(1)>" not in text.replace("&gt;", "").replace("\\u003e", "")
    shown = "".join(tags.text)
    assert f"run {HOSTILE}" in shown  # the title, the condition, notes and options, in full
    assert f"rain {HOSTILE}" in shown
    assert f'root = "{HOSTILE}"' in shown
    assert data_of(text)["queries"][0]["name"].endswith(HOSTILE)


def test_nothing_is_loaded_from_anywhere():
    text = report_text(content())
    tags = Tags(text)
    assert not tags.of("link")
    for tag, attributes in tags.elements:
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, value)
    assert "url(" not in text
    assert any("default-src 'none'" in one.get("content", "") for one in tags.of("meta"))


def test_every_part_is_there_and_only_where_it_has_something_to_say():
    full, bare = (
        {one.get("id") for one in Tags(report_text(given)).of("section")}
        for given in (content(), content(gradcam=(), projections=(), metrics=()))
    )
    assert full == {
        *(
            "results",
            "curves",
            "precision",
            "map",
            "gradcam",
            "tsne",
            "training",
            "configuration",
        ),
    }
    assert bare == {"results", "curves", "precision", "map", "configuration"}


def test_all_queries_are_on_the_map_and_counted():
    given = content(num_queries=400, conditions=("sun", "night"), pictured=30)
    text = report_text(given)
    data, tags = data_of(text), Tags(text)
    shown = given.results[-1]
    right = shown.distance_m < 10
    counts = [
        [
            int((right & (shown.condition == n)).sum()),
            int((~right & (shown.condition == n)).sum()),
        ]
        for n in (0, 1)
    ]
    assert data["counts"] == counts
    assert len(data["queries"]) == 30
    layers = [one for one in tags.of("path") if one.get("class", "").startswith("dots")]
    dots = sum(
        one["d"].count("h0" if one["data-outcome"] == "right" else "l8 8") for one in layers
    )
    assert dots + 30 == 400
    queries = [one for one in tags.of("g") if one.get("class", "").startswith("query")]
    for drawn, query in zip(queries, data["queries"], strict=True):
        row = int(np.flatnonzero(shown.query_index == int(query["image"]))[0])
        assert drawn["data-outcome"] == ("right" if right[row] else "wrong")
        assert int(drawn["data-condition"]) == shown.condition[row]
        assert query["reference_image"] == str(shown.reference_index[row])
        assert {query["image"], query["reference_image"]} <= set(data["images"])
        # The line is as long on the map as the match is far.
        scale = np.hypot(query["x"] - query["rx"], query["y"] - query["ry"])
        assert scale / shown.distance_m[row] == pytest.approx(10, rel=0.3)


def test_pictures_are_of_the_worst_the_best_and_some_between():
    shown = content(num_queries=1000, conditions=("sun",)).results[-1]
    rows = pictured_rows(shown, 300)
    assert len(rows) == len(set(rows)) == 300
    order = np.sort(shown.distance_m)
    np.testing.assert_allclose(shown.distance_m[rows[:100]], order[::-1][:100])
    np.testing.assert_allclose(shown.distance_m[rows[100:200]], order[:100])
    assert max(np.diff(np.sort(rows[200:]))) < 60
    few = content(num_queries=7, conditions=("sun",)).results[-1]
    assert sorted(pictured_rows(few, 300)) == list(range(7))


def test_a_file_of_the_worst_images_stays_below_15_mb():
    given = content(num_queries=320, conditions=("sun",), size=(240, 320))
    text = report_text(given)
    assert len(data_of(text)["queries"]) == 300
    assert 1e6 < len(text.encode()) < 15e6


def test_thumbnails_read_each_image_once_and_shrink_to_fit():
    dataset = Dataset((120, 160))
    wanted = [3, 4, 3, 5]
    large = thumbnails(wanted, dataset.load_image, most_bytes=10**7)
    assert dataset.loaded == 3
    assert list(large) == [3, 4, 5]
    small = thumbnails(wanted, dataset.load_image, most_bytes=10_000)
    assert sum(map(len, small.values())) <= 10_000
    assert sum(map(len, large.values())) > 30_000


def test_a_comparison_is_shown_as_means_over_seeds():
    def summary(accuracy):
        return {"overall": {"accuracy": {"5": accuracy}, "area": {"25": 0.5}}}

    document = {
        "protocol": asdict(content().results[0].protocol) | {"thresholds_m": [5.0]},
        "entries": [
            {"name": HOSTILE, "summaries": {"0": summary(0.5), "1": summary(0.7)}},
            {"name": "diverged", "summaries": {}},
        ],
    }
    text = report_text(content(comparison=document, comparison_picture=b"png"))
    cells = "".join(Tags(text).text)
    assert "60.0 (50.0 to 70.0)" in cells
    assert HOSTILE in cells
    assert "data:image/png;base64,cG5n" in text


def test_north_is_marked_where_positions_can_be_utm():
    given = content()
    assert 'text-anchor="middle">N</text>' in report_text(given)
    local = [
        replace(table, positions_m=table.positions_m - given.split.references.positions_m[0])
        for table in (given.split.references, given.split.queries)
    ]
    text = report_text(replace(given, split=Split(references=local[0], queries=local[1])))
    assert 'text-anchor="middle">N</text>' not in text
    assert axis_names(local[0].positions_m) == ("x", "y")


def test_results_of_other_protocols_have_tables_of_their_own():
    given = content()
    other = content(num_queries=7).results
    shown = "".join(Tags(report_text(replace(given, others=[other]))).text)
    assert "Other evaluations of this run" in shown
    assert "Split test of data data-1, 7 queries, 25 references" in shown
    assert "Other evaluations" not in "".join(Tags(report_text(given)).text)


def test_one_condition_one_place_and_results_that_are_all_alike():
    given = content(num_queries=2, conditions=("sun",))
    still = replace(
        given.split.queries,
        positions_m=np.zeros((2, 2)) + given.split.references.positions_m[:1],
    )
    text = report_text(
        replace(given, split=replace(given.split, queries=still), projections=(), pictured=0)
    )
    assert "nan" not in text.lower().replace("nanos", "")


@pytest.mark.parametrize("extent_m", [0.5, 3.0, 44.0, 208.0, 999.0, 12_345.0])
def test_the_scale_bar_is_a_fifth_of_the_map_or_less(extent_m):
    frame = Frame(np.array([[0.0, 0.0], [extent_m, extent_m / 3]]))
    text, length = frame.bar()
    assert 50 < length <= 200
    assert length == pytest.approx(float(text) * frame.scale, abs=0.1)


def test_axes_have_round_ticks():
    assert round_values(0, 25) == [0, 5, 10, 15, 20, 25]
    assert round_values(0, 100) == [0, 20, 40, 60, 80, 100]
    assert round_values(2.463, 2.484) == [2.465, 2.47, 2.475, 2.48]
    for low, high in ((0, 3e-7), (-5, 5), (1e9, 1e9 + 1), (0.1, 0.7)):
        ticks = round_values(low, high)
        assert 2 <= len(ticks) <= 7
        assert min(ticks) >= low
        assert max(ticks) <= high
    chart = line_chart(
        [Line("a", [0, 10], [1, 1])], title="t", description="d", x_label="x", y_label="y"
    )
    (line,) = chart.lines
    assert line.points == "60.0,93.0 304.0,93.0"


def test_small_numbers_on_an_axis_all_have_exponents():
    def labels(*values):
        chart = line_chart(
            [Line("a", range(len(values)), values)],
            title="t",
            description="d",
            x_label="x",
            y_label="y",
        )
        return [tick.text for tick in chart.y_ticks]

    assert labels(0, 0.003) == ["0", "5e-4", "1e-3", "1.5e-3", "2e-3", "2.5e-3", "3e-3"]
    assert labels(0, 0.012) == ["0", "0.002", "0.004", "0.006", "0.008", "0.01", "0.012"]
    assert labels(-0.002, 0.001) == ["-2e-3", "-1.5e-3", "-1e-3", "-5e-4", "0", "5e-4", "1e-3"]


def test_validation_is_charted_in_percent_with_the_best_step():
    rows = [
        {"step": 20.0, "area": 0.4, "accuracy_2.5_m": 0.25, "loss": 2.5, "best_step": 20.0},
        {"step": 40.0, "area": 0.5, "accuracy_2.5_m": 0.5, "loss": 2.25, "best_step": 40.0},
        {"step": 60.0, "area": 0.45, "accuracy_2.5_m": 0.75, "loss": 2.0, "best_step": 40.0},
    ]
    section = validation(content(validation=rows))
    assert [chart.title for chart in section.charts] == ["area (%)", "< 2.5 m (%)", "loss"]
    assert section.charts[0].description == "area (%) from 40 at step 20 to 45 at step 60"
    assert [tick.text for tick in section.charts[1].y_ticks] == ["30", "40", "50", "60", "70"]
    assert section.title == "Validation during training"
    assert section.text.endswith(" The area is largest at step 40.")
    assert "&lt; 2.5 m (%)" in report_text(content(validation=rows))
    assert validation(content()) is None
