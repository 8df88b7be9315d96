"""Training on the map that is searched."""

from __future__ import annotations

import pickle

import numpy as np

from mlcore.data.adaptation import TrainedOnReferences
from mlcore.protocols import HasImageFiles, SuppliesExtras


class WithFiles:
    def __init__(self, dataset) -> None:
        self._dataset = dataset

    def __getattr__(self, name: str):
        if name.startswith("__") or name == "_dataset":
            raise AttributeError(name)
        return getattr(self._dataset, name)

    def path(self, index: int) -> str:
        return f"{index}.jpg"


def test_the_references_of_the_test_are_trained_on_and_no_query(synthetic_dataset):
    adapted = TrainedOnReferences(synthetic_dataset)
    references = synthetic_dataset.test.references
    assert np.array_equal(adapted.train.references.index, references.index)
    assert len(adapted.train.queries) == 0
    assert adapted.test is synthetic_dataset.test
    assert adapted.fingerprint == synthetic_dataset.fingerprint
    assert adapted.image_name(3) == synthetic_dataset.image_name(3)


def test_optional_methods_are_those_of_the_data_set(synthetic_dataset):
    plain, with_files = (
        TrainedOnReferences(dataset)
        for dataset in (synthetic_dataset, WithFiles(synthetic_dataset))
    )
    assert not isinstance(plain, HasImageFiles)
    assert isinstance(with_files, HasImageFiles)
    assert not isinstance(with_files, SuppliesExtras)
    assert with_files.path(3) == "3.jpg"


def test_data_loading_processes_get_it(synthetic_dataset):
    copied = pickle.loads(pickle.dumps(TrainedOnReferences(WithFiles(synthetic_dataset))))
    assert copied.path(3) == "3.jpg"
    assert len(copied.train.queries) == 0
