"""Which references are searched: spacing, skipping, whitening."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlcore.errors import ConfigError, DataError
from mlcore.models.pixels import PixelModel
from mlcore.options.engine import EvaluationOptions
from mlcore.protocols import PlaceTable
from mlcore.retrieval.embedder import Embedder, evenly_spaced
from mlcore.retrieval.references import embed_references, keep_spaced, whitening_source


def table_along(metres, traversal):
    size = len(metres)
    return PlaceTable(
        index=np.arange(size),
        positions_m=np.stack([np.asarray(metres, float), np.zeros(size)], axis=1),
        traversal=np.asarray(traversal),
        traversals=("first", "second"),
        condition=np.zeros(size, dtype=np.int64),
        conditions=("overcast",),
    )


def test_spacing_walks_each_traversal_in_order():
    # Both traversals start with their first image; 4 m is exactly the spacing: kept.
    table = table_along([0, 1, 2, 4, 4, 7.9, 8, 9], [0, 1, 0, 0, 1, 0, 0, 1])
    assert keep_spaced(table, 4.0).tolist() == [0, 1, 3, 6, 7]
    assert keep_spaced(table, 0.0).tolist() == list(range(8))


def test_spacing_is_from_the_last_kept_not_the_last_seen():
    table = table_along(np.arange(10.0), np.zeros(10, dtype=np.int64))
    assert keep_spaced(table, 2.5).tolist() == [0, 3, 6, 9]


def test_negative_spacing():
    with pytest.raises(ConfigError, match=r"--evaluation.spacing_m .* got -1"):
        keep_spaced(table_along([0], [0]), -1.0)


@pytest.mark.parametrize(("rows", "wanted"), [(10, 4), (10, 10), (3, 10), (1, 5), (0, 5)])
def test_evenly_spaced_rows(rows, wanted):
    found = evenly_spaced(rows, wanted)
    assert len(found) == min(rows, wanted) == len(np.unique(found))
    if len(found) > 1:
        assert (found[0], found[-1]) == (0, rows - 1)
        assert np.ptp(np.diff(found)) <= 1


class MeanColour(PixelModel):
    """Something small that whitening is allowed for."""

    allows_whitening = True


def embedder_of(model, **options):
    return Embedder(model=model, input_size=(32, 64), **options)


@pytest.mark.parametrize("source", ["none", "train", "references"])
def test_whitening_is_fitted_where_it_is_told(synthetic_dataset, source):
    options = EvaluationOptions(whitening=source, dimensions=4, whitening_images=50)
    model = MeanColour(rows=2, columns=4)
    table = synthetic_dataset.test.references
    found = embed_references(embedder_of(model), synthetic_dataset, table, options)
    assert found.embeddings.shape == (60, 8 if source == "none" else 4)
    if source == "none":
        assert found.whitening is None
        assert found.whiten(found.embeddings) is found.embeddings
    else:
        assert found.whitening is not None
        assert (found.whitening.source, found.whitening.num_images) == (source, 50)


@pytest.mark.parametrize(
    ("dimensions", "images", "source"),
    [(256, 5000, "train"), (256, 32, "train"), (256, 31, "none"), (4, 16, "train"),
     (4, 15, "none")],
)  # fmt: skip
def test_auto_whitens_with_four_training_images_per_dimension(
    synthetic_dataset, dimensions, images, source
):
    options = EvaluationOptions(dimensions=dimensions, whitening_images=images)
    model = MeanColour(rows=2, columns=4)  # 8 dimensions
    assert options.whitening == "auto"
    assert whitening_source(options, model, synthetic_dataset) == source
    table = synthetic_dataset.test.references
    found = embed_references(embedder_of(model), synthetic_dataset, table, options)
    assert (found.whitening is None) == (source == "none")


def test_the_pixel_baseline_is_never_whitened(synthetic_dataset):
    table = synthetic_dataset.test.references
    embedder = embedder_of(PixelModel(rows=2, columns=4))
    found = embed_references(embedder, synthetic_dataset, table, EvaluationOptions())
    assert found.whitening is None


def test_unreadable_images_stop_or_are_left_out_by_name(synthetic_dataset):
    table = synthetic_dataset.test.references
    synthetic_dataset.broken = frozenset(int(index) for index in table.index[[0, 7, 8, 59]])
    model, options = PixelModel(), EvaluationOptions()
    with pytest.raises(DataError, match="synthetic/0360 cannot be decoded"):
        embed_references(embedder_of(model), synthetic_dataset, table, options)
    embedder = embedder_of(model, skip_unreadable=True, batch_size=3)
    found = embed_references(embedder, synthetic_dataset, table, options)
    assert found.skipped == tuple(f"synthetic/{360 + row:04d}" for row in (0, 7, 8, 59))
    kept = [row for row in range(60) if row not in (0, 7, 8, 59)]
    np.testing.assert_array_equal(found.table.index, table.index[kept])
    image = synthetic_dataset.load_image(int(table.index[kept[5]]))
    np.testing.assert_allclose(found.embeddings[5], model(image[None])[0], atol=1e-6)
    synthetic_dataset.broken = frozenset(int(index) for index in table.index)
    with pytest.raises(DataError, match="no reference images to search"):
        embed_references(embedder, synthetic_dataset, table, options)


def test_embedding_keeps_the_mode_and_tells_progress(synthetic_dataset):
    told = []
    model = PixelModel().train()
    embedder = embedder_of(model, batch_size=25, progress=lambda *words: told.append(words))
    before = torch.get_rng_state()
    embedder(synthetic_dataset, np.arange(60), "work")
    assert model.training
    assert told == [("work", 25, 60), ("work", 50, 60), ("work", 60, 60)]
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_change_no_number(synthetic_dataset):
    embedders = [embedder_of(PixelModel(), num_workers=number) for number in (0, 2)]
    here, there = (one(synthetic_dataset, np.arange(70)).embeddings for one in embedders)
    np.testing.assert_array_equal(here, there)


def test_embeddings_that_are_not_finite_name_an_image(synthetic_dataset):
    class Spoilt(PixelModel):
        def embed(self, images):
            return super().embed(images) / (images.float().mean() > 1000)

    with pytest.raises(
        DataError, match="the first is synthetic/0004; the model's weights are invalid"
    ):
        embedder_of(Spoilt())(synthetic_dataset, np.arange(4, 9))
