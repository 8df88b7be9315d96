"""Grey images of which an 8-bit conversion leaves a few levels are reported."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mlcore.data.checks import decode_sample
from mlcore.data.images import read_image

SCENE = np.random.default_rng(0).random((48, 64))


class Files:
    """Image files as a data set."""

    def __init__(self, paths):
        self.paths = paths

    def load_image(self, index):
        return read_image(self.paths[index])

    def image_name(self, index):
        return self.paths[index].name


def warnings_of(tmp_path, **pictures):
    paths = []
    for name, pixels in pictures.items():
        paths.append(tmp_path / f"{name}.png")
        Image.fromarray(pixels).save(paths[-1])
    found = decode_sample(Files(paths), np.arange(len(paths)), full=True, unreadable="")
    return [finding for finding in found if finding.severity == "warning"]


@pytest.mark.parametrize(
    ("lowest", "highest"),
    [
        (29_000, 31_000),  # a thermal camera: hundredths of a kelvin around 20 degrees
        (7_000, 8_500),
        (0, 4_095),  # 12 bits in a file of 16
        (0, 255),  # 8 bits in a file of 16: black
    ],
)
def test_a_narrow_range_of_16_bits_is_reported(tmp_path, lowest, highest):
    narrow = (lowest + SCENE * (highest - lowest)).astype(np.uint16)
    (warning,) = warnings_of(tmp_path, narrow=narrow, wide=(SCENE * 65_535).astype(np.uint16))
    assert warning.message.startswith("images keep fewer than 18 grey levels in 8 bits")
    assert (warning.count, warning.examples) == (1, ("narrow.png",))


@pytest.mark.parametrize("levels", [2, 15])
def test_few_levels_of_8_bits_are_reported(tmp_path, levels):
    (warning,) = warnings_of(tmp_path, few=(SCENE * levels).astype(np.uint8))
    assert warning.count == 1


def test_scenes_and_plain_colours_are_not_reported(tmp_path):
    fog = (200 + SCENE * 20).astype(np.uint8)
    coloured = np.stack([fog // 8, fog // 9, fog // 10], axis=2)
    plain = np.full((48, 64), 7, np.uint8)
    full = (SCENE * 65_535).astype(np.uint16)
    assert warnings_of(tmp_path, fog=fog, coloured=coloured, plain=plain, full=full) == []
