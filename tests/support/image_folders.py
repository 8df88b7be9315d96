"""Folders of tiny images, and what tests of the data set ``images`` do with them."""

from __future__ import annotations

import pytest
from PIL import Image

from mlcore.errors import DataError
from mlcore.factories import BuildContext
from mlcore_images.config import ImagesConfig
from mlcore_images.plugin import mlcore_datasets

FACTORY = mlcore_datasets()[0]
SEASONS = {"references": "condition=autumn", "train": "frame=0..3", "test": "frame=4..5"}


def save(path, colour=(10, 20, 30), size=(8, 6), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)


def build(folder, **options):
    return FACTORY.build(ImagesConfig(root=folder, **options), BuildContext())


def error_of(folder, kind=DataError, **options):
    with pytest.raises(kind) as caught:
        build(folder, **options)
    return str(caught.value)
