"""Embeddings in the plane, and the colours of places."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mlcore.errors import ConfigError, DataError
from mlcore.evaluation.projection import project
from mlcore.protocols import PlaceTable, Split
from mlcore.reporting.figures.places import (
    extent_of,
    place_colours,
    place_figure,
    save_place_figure,
)


def clusters(num_points, num_clusters=4):
    generator = np.random.default_rng(0)
    centres = 5 * generator.normal(size=(num_clusters, 16))
    noise = generator.normal(size=(num_points, 16))
    label = np.arange(num_points) % num_clusters
    return (centres[label] + noise).astype(np.float32), label


def test_tsne_keeps_neighbours_together_and_repeats_itself():
    embeddings, label = clusters(120)
    told = []
    found = project(embeddings, progress=lambda *step: told.append(step[1:3]))
    assert found.method == "t-SNE"
    assert found.points.shape == (120, 2)
    distance = np.linalg.norm(found.points[:, None] - found.points, axis=2)
    np.fill_diagonal(distance, np.inf)
    assert (label[distance.argmin(axis=1)] == label).mean() > 0.95
    assert told[-1] == (750, 750)
    assert sorted(told) == told
    assert len(told) > 10
    again = project(embeddings)
    np.testing.assert_array_equal(again.points, found.points)


def test_pca_is_what_it_is_called():
    embeddings, _ = clusters(40)
    found = project(embeddings)
    assert found.method == "PCA"
    centred = embeddings.astype(np.float64) - embeddings.mean(axis=0, dtype=np.float64)
    variance = np.linalg.eigvalsh(centred.T @ centred)[::-1][:2]
    np.testing.assert_allclose(np.square(found.points).sum(axis=0), variance, rtol=1e-6)


def test_few_and_flat_embeddings():
    one_dimension = np.arange(5, dtype=np.float32)[:, None]
    found = project(one_dimension)
    assert found.points.shape == (5, 2)
    np.testing.assert_array_equal(found.points[:, 1], 0.0)
    twice = np.repeat(clusters(15)[0], 2, axis=0)
    assert np.isfinite(project(twice, method="tsne").points).all()


@pytest.mark.parametrize(
    ("num_points", "method", "error", "message"),
    [
        (
            19,
            "tsne",
            DataError,
            "t-SNE needs at least 20 embeddings, got 19; use --method pca",
        ),
        (1, "auto", DataError, "at least 2 embeddings, got 1"),
        (30, "tsne", DataError, "all 30 embeddings are identical: the network has collapsed"),
        (30, "umap", ConfigError, "unknown method 'umap'; known: auto, tsne, pca"),
    ],
)
def test_what_cannot_be_projected(num_points, method, error, message):
    with pytest.raises(error, match=message):
        project(np.zeros((num_points, 3), dtype=np.float32), method=method)


def lab_of(colours):
    """CIE L*a*b* (D65) of sRGB in [0, 1]: another space than the one the colours come from."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    to_xyz = [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
    xyz = linear @ np.transpose(to_xyz) / [0.95047, 1.0, 1.08883]
    root = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def test_colours_are_even():
    """A step of 5 % of the region looks about alike wherever it is made, and whither."""
    steps = np.linspace(0, 1000, 21)
    grid = np.stack(np.meshgrid(steps, steps), axis=-1)
    extent = extent_of(grid.reshape(-1, 2))
    colours = place_colours(grid.reshape(-1, 2), extent).reshape(21, 21, 3)
    assert colours.min() > 0  # nothing was cut off at the limits of the screen
    assert colours.max() < 1
    lab = lab_of(colours)
    assert np.ptp(lab[..., 0]) < 8
    east = np.linalg.norm(np.diff(lab, axis=1), axis=2).ravel()
    north = np.linalg.norm(np.diff(lab, axis=0), axis=2).ravel()
    both = np.concatenate([east, north])
    assert both.min() > 1  # a just noticeable difference
    assert both.max() / both.min() < 2.5


def test_a_metre_is_the_same_step_east_as_north_and_utm_loses_nothing():
    around = np.array([[0.0, 0], [200, 0], [0, 50], [100, 25], [101, 25]])
    here = place_colours(around, extent_of(around))
    far = around + np.array([620_000.0, 5_735_000.0])
    np.testing.assert_allclose(place_colours(far, extent_of(far)), here, atol=1e-9)
    assert extent_of(around).half_side_m == 100
    assert extent_of(np.zeros((3, 3))).half_side_m == 1  # one place, with altitude


def split_of(num_queries):
    generator = np.random.default_rng(0)

    def table(size):
        return PlaceTable(
            index=np.arange(size),
            positions_m=generator.uniform(0, 90, (size, 2)) + 5e6,
            traversal=np.zeros(size, dtype=np.int64),
            traversals=("t",),
            condition=np.zeros(size, dtype=np.int64),
            conditions=("c",),
        )

    return Split(references=table(30), queries=table(num_queries))


@pytest.mark.parametrize("num_models", [1, 2, 3])
def test_map_and_projections_are_drawn(tmp_path, num_models):
    split = split_of(25)
    embeddings, _ = clusters(25)
    projected = [("$odd_{ name", project(embeddings))] * num_models
    figure = place_figure(split, projected, title="$x_{")
    panels = [panel for panel in figure.axes if panel.get_visible()]
    assert len(panels) == 1 + num_models
    assert "(m)" in panels[0].get_xlabel()
    (drawn,) = panels[1].collections
    queries = split.queries.positions_m
    extent = extent_of(np.concatenate([split.references.positions_m, queries]))
    np.testing.assert_allclose(drawn.get_facecolors()[:, :3], place_colours(queries, extent))
    save_place_figure(split, projected, tmp_path / "tsne.png")
    with Image.open(tmp_path / "tsne.png") as picture:
        assert picture.width > 1000
