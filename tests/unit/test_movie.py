"""Rows of matches as pictures, and their movie."""

from __future__ import annotations

import subprocess
import sys

import imageio_ffmpeg
import numpy as np
import pytest
import torch

from mlcore.errors import ConfigError, DataError, MlcoreError
from mlcore.evaluation.gradcam import GradCamMatch
from mlcore.reporting.figures.gradcam import draw_rows, overlay
from mlcore.reporting.figures.movie import save_movie


def match(distance_m):
    heat = np.zeros((3, 4), dtype=np.float32)
    heat[0, 0] = 2.0
    return GradCamMatch(
        query=0, reference=1, query_map=heat, reference_map=0 * heat,
        distance_m=distance_m, embedding_distance=0.5,
    )  # fmt: skip


def load_image(index):
    return torch.full((3, 48, 128), 60 + 100 * index, dtype=torch.uint8)


def drawn(*distances_m, heading="h", name="model"):
    rows = [(name, match(distance_m)) for distance_m in distances_m]
    return draw_rows(rows, load_image, heading=heading, correct_within_m=10.0)


def has_colour(picture, colour):
    return bool((picture == np.array(colour)).all(axis=2).any())


def test_a_map_is_brightest_where_it_is_largest():
    image = np.full((30, 40, 3), 100, dtype=np.uint8)
    heat = np.zeros((3, 4), dtype=np.float32)
    heat[0, 3] = 7.0
    over = overlay(image, heat).astype(int)
    assert over[2, 37].sum() > over[2, 2].sum() + 100
    np.testing.assert_array_equal(over[-1, 0], 100)
    np.testing.assert_array_equal(overlay(image, 0 * heat), image)


def test_distance_says_right_and_wrong_strictly_within():
    green, red = (0x00, 0x7A, 0x5A), (0xB8, 0x00, 0x0F)
    assert has_colour(drawn(9.99), green)
    assert not has_colour(drawn(9.99), red)
    assert has_colour(drawn(10.0), red)
    assert not has_colour(drawn(10.0), green)


def test_sides_are_even_and_long_names_are_cut():
    for count in (1, 2, 3):
        for width in (33, 64, 321):
            picture = draw_rows(
                [("n" * 500, match(1.0))] * count,
                load_image,
                heading="a\nb" * 300,
                correct_within_m=10.0,
                panel_width_px=width,
            )
            assert picture.shape[0] % 2 == 0
            assert picture.shape[1] % 2 == 0
    np.testing.assert_array_equal(drawn(1.0, heading="a b"), drawn(1.0, heading="a\n b"))


def test_a_movie_is_h264_in_yuv420p_with_its_index_first(tmp_path):
    path = tmp_path / "movie.mp4"
    alive = []

    def frames():
        for number in range(30):
            alive.append(number)
            picture = drawn(float(number))
            yield picture

    assert save_movie(frames(), path, frames_per_second=5) == 30
    assert alive == list(range(30))
    assert [found.name for found in tmp_path.iterdir()] == ["movie.mp4"]
    content = path.read_bytes()
    assert content.find(b"moov") < content.find(b"mdat")
    height, width, _ = drawn(0.0).shape
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path), "-f", "rawvideo"]
    decoded = subprocess.run(
        [*command, "-pix_fmt", "rgb24", "-"], capture_output=True, check=True
    )
    stream = next(line for line in decoded.stderr.decode().splitlines() if "Video:" in line)
    for part in ("h264", "yuv420p", f"{width}x{height}", "5 fps"):
        assert part in stream
    shown = np.frombuffer(decoded.stdout, dtype=np.uint8).reshape(-1, height * width * 3)
    assert len(shown) == 30
    first = drawn(0.0).ravel().astype(int)
    assert np.abs(shown[0].astype(int) - first).mean() < 4


def test_frames_are_not_gathered(tmp_path):
    """Each frame is with the encoder before the next is drawn."""
    sent = []

    def frames():
        for number in range(20):
            yield np.full((64, 64, 3), number, dtype=np.uint8)
            sent.append(number)
            if number == 10:
                raise KeyboardInterrupt

    path = tmp_path / "movie.mp4"
    path.write_bytes(b"what was there")
    with pytest.raises(KeyboardInterrupt):
        save_movie(frames(), path, frames_per_second=5)
    assert sent == list(range(11))
    assert path.read_bytes() == b"what was there"
    assert len(list(tmp_path.iterdir())) == 1


def test_no_ffmpeg_is_one_sentence(tmp_path, monkeypatch):
    def missing():
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", missing)
    with pytest.raises(
        ConfigError, match="a movie needs ffmpeg, and imageio-ffmpeg finds none"
    ):
        save_movie(iter(()), tmp_path / "movie.mp4", frames_per_second=5)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ConfigError, match=r"a movie needs imageio_ffmpeg, .*\[figures\]"):
        save_movie(iter(()), tmp_path / "movie.mp4", frames_per_second=5)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 0", "ffmpeg stopped before it had received all frames"),
        ("cat > /dev/null; echo 'No space left' >&2; exit 1", "movie.mp4: No space left"),
        ("exit 1", "movie.mp4: it stopped early"),
    ],
)
def test_an_encoder_that_fails_is_an_error(tmp_path, monkeypatch, script, message):
    program = tmp_path / "ffmpeg"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: program)
    frames = (np.zeros((64, 64, 3), dtype=np.uint8) for _ in range(1000))
    with pytest.raises(MlcoreError, match=message):
        save_movie(frames, tmp_path / "movie.mp4", frames_per_second=5)
    assert [found.name for found in tmp_path.iterdir()] == ["ffmpeg"]


def test_no_frame(tmp_path):
    with pytest.raises(DataError, match="at least one frame"):
        save_movie(iter(()), tmp_path / "movie.mp4", frames_per_second=5)
