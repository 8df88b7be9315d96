"""The pictures: what they show, and that they are written whole."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from mlcore.errors import DataError
from mlcore.evaluation.evaluate import evaluate_split
from mlcore.evaluation.measures import columns
from mlcore.options.engine import EvaluationOptions
from mlcore.protocols import PlaceTable, Split
from mlcore.reporting.figures.curves import curves_figure, grid_figure, save_curves
from mlcore.reporting.figures.matches import save_matches
from mlcore.retrieval.localization import Match, QueryImage


def results_of(num_conditions, names=("untrained", "trained"), **options):
    generator = np.random.default_rng(0)
    size = 30
    conditions = tuple(f"weather {number}" for number in range(num_conditions))

    def table():
        return PlaceTable(
            index=np.arange(size),
            positions_m=generator.uniform(0, 60, (size, 2)),
            traversal=np.zeros(size, dtype=np.int64),
            traversals=("only",),
            condition=np.arange(size) % num_conditions,
            conditions=conditions,
        )

    split = Split(references=table(), queries=table())
    return [
        evaluate_split(
            *(generator.normal(size=(size, 3)).astype(np.float32) for _ in range(2)),
            split,
            EvaluationOptions(**options),
            name=name,
        )
        for name in names
    ]


def test_the_area_column_is_that_of_the_limits_that_were_asked_for():
    def headings(**options):
        protocol = results_of(1, ("trained",), **options)[0].protocol
        return [column.heading for column in columns(protocol, "accuracy")]

    assert "area to 25 m" in headings()
    asked = headings(auc_limits_m=(10.0, 40.0))
    assert [name for name in asked if name.startswith("area")] == ["area to 40 m"]


@pytest.mark.parametrize(
    ("num_conditions", "num_panels"), [(1, 1), (2, 3), (3, 4), (5, 6), (6, 7)]
)
def test_a_panel_for_each_condition_and_one_for_all(num_conditions, num_panels):
    figure = curves_figure(results_of(num_conditions))
    panels = [panel for panel in figure.axes if panel.get_visible()]
    assert len(panels) == num_panels
    titles = [panel.get_title() for panel in panels]
    assert titles[0] == f"weather 0 ({30 // num_conditions} queries)"
    if num_conditions > 1:
        assert titles[-1] == "all queries (30 queries)"


@pytest.mark.parametrize("num_panels", [1, 2, 3])
def test_a_long_title_is_not_cut_off(num_panels):
    title = "Accuracy within 10 m by embedding dimension, 12345 references"
    figure, _ = grid_figure(num_panels, title=title)
    figure.draw_without_rendering()
    (written,) = [text for text in figure.texts if "Accuracy" in text.get_text()]
    assert written.get_text().split() == title.split()
    extent = written.get_window_extent()
    assert extent.x0 >= 0
    assert extent.x1 <= figure.bbox.x1


def test_lines_are_the_curves_in_percent():
    untrained, trained = results_of(2)
    figure = curves_figure([untrained, trained])
    panel = figure.axes[0]
    lines = {line.get_label(): line for line in panel.get_lines()}
    assert list(lines) == ["trained", "untrained", "upper bound"]
    curve = trained.curve("weather 0")
    np.testing.assert_allclose(lines["trained"].get_ydata(), 100 * curve.accuracy)
    np.testing.assert_allclose(lines["upper bound"].get_ydata(), 100 * curve.upper_bound)
    np.testing.assert_allclose(lines["trained"].get_xdata(), curve.threshold_m)
    assert "(m)" in panel.get_xlabel()
    assert "(%)" in figure.get_supylabel()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(lines)


def test_a_picture_is_written(tmp_path):
    path = tmp_path / "metres.png"
    save_curves(results_of(1, names=("one", "two", "three")), path, title="$broken_{")
    with Image.open(path) as picture:
        assert picture.format == "PNG"
    assert [found.name for found in tmp_path.iterdir()] == ["metres.png"]


def test_names_that_the_font_lacks_are_drawn_without_a_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_curves(results_of(1, names=("東京", "trained")), tmp_path / "metres.png")
    assert (tmp_path / "metres.png").stat().st_size > 0


def test_results_of_different_protocols(tmp_path):
    mixed = results_of(1) + results_of(1, recall_radius_m=3.0)
    with pytest.raises(DataError, match="cannot be compared"):
        save_curves(mixed, tmp_path / "metres.png")
    assert not list(tmp_path.iterdir())


def test_matches_are_drawn_for_images_of_any_size(tmp_path):
    asked = [QueryImage(name="a $_{b}.jpg"), QueryImage(name="test/night-1/0001")]
    images = [
        torch.zeros(3, 20, 30, dtype=torch.uint8),
        torch.zeros(3, 50, 20, dtype=torch.uint8),
    ]
    found = [
        [
            Match(
                index=rank,
                image=str(rank),
                position_m=(0.0, 0.0),
                heading_rad=None,
                traversal="t",
                condition="c",
                embedding_distance=0.5,
                distance_m=metres,
            )
            for rank, metres in enumerate([None, 3.0, 30.0, 1.0, 1.0, 1.0, 1.0])
        ]
        for _ in asked
    ]
    path = tmp_path / "matches.png"
    save_matches(path, asked, images, found, lambda index: images[index % 2])
    with Image.open(path) as picture:
        width, height = picture.size
    assert width > 6 * height / 3
