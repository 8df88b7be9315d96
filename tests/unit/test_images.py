"""Reading images of every kind, fitting them to a size, varying them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mlcore.data import images
from mlcore.data.images import augment, fits, letterbox, read_image
from mlcore.errors import DataError

COLOUR = (200, 100, 50)
ORIENTATION = 0x0112


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def plain(mode: str = "RGB", colour: object = COLOUR) -> Image.Image:
    return Image.new(mode, (6, 4), colour)


def image_or_message(path: Path) -> torch.Tensor | str:
    try:
        return read_image(path)
    except DataError as error:
        return str(error)


def random_images(num_images: int, height: int = 16, width: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(
        0, 256, (num_images, 3, height, width), dtype=torch.uint8, generator=generator
    )


def test_channels_rows_and_columns_come_in_order(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    image = read_image(saved(Image.fromarray(pixels), tmp_path / "a.png"))
    assert image.dtype == torch.uint8
    assert image.is_contiguous()
    assert np.array_equal(image.permute(1, 2, 0).numpy(), pixels)


@pytest.mark.parametrize(
    ("image", "suffix", "expected"),
    [
        (plain("L", 77), "png", (77, 77, 77)),
        (plain("1", 1), "png", (255, 255, 255)),
        (plain("LA", (77, 10)), "png", (77, 77, 77)),
        (plain("RGBA", (*COLOUR, 0)), "png", COLOUR),
        (plain().convert("P", palette=Image.Palette.ADAPTIVE), "png", COLOUR),
        (plain("CMYK", (0, 0, 0, 0)), "tif", (255, 255, 255)),
        (plain("I;16", 65535), "png", (255, 255, 255)),
        (plain("I;16", 257 * 40), "png", (40, 40, 40)),
        (plain("I;16", 200), "png", (1, 1, 1)),  # dark, not 8 bits in disguise
        (plain("I", 257 * 40), "tif", (40, 40, 40)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else "",
)
def test_every_kind_of_pixel_becomes_rgb(tmp_path, image, suffix, expected):
    read = read_image(saved(image, tmp_path / f"a.{suffix}"))
    assert read.shape == (3, 4, 6)
    assert read[:, 1, 2].tolist() == list(expected)


def test_a_palette_with_transparent_colours(tmp_path):
    image = plain().convert("P", palette=Image.Palette.ADAPTIVE)
    path = saved(image, tmp_path / "a.png", transparency=bytes([0, 128]))
    assert read_image(path)[:, 0, 0].tolist() == list(COLOUR)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    upright = np.random.default_rng(1).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    undo = {  # how a camera held that way stores the upright picture
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = Image.fromarray(np.ascontiguousarray(undo(upright)))
    path = saved(stored, tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(path).permute(1, 2, 0).numpy(), upright)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=f"no image at {tmp_path}/none.jpg"):
        read_image(tmp_path / "none.jpg")


def test_a_file_that_is_no_image_is_named(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_text("<html>log in first</html>")
    with pytest.raises(DataError, match=r"a\.jpg is not an image of a known format"):
        read_image(path)


def test_pixels_without_a_range_are_refused(tmp_path):
    path = saved(plain("F", 0.5), tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a\.tif cannot be decoded: its pixels are floating"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_truncated_image_is_named(tmp_path, suffix):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = saved(Image.fromarray(pixels), tmp_path / f"a.{suffix}")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=rf"a\.{suffix} cannot be decoded: .*truncated"):
        read_image(path)


@pytest.mark.parametrize("limit_pixels", [23, 24])
def test_images_with_more_pixels_than_the_limit_are_refused(
    tmp_path, monkeypatch, limit_pixels
):
    monkeypatch.setattr(images, "MAX_PIXELS", limit_pixels)
    path = saved(plain(), tmp_path / "a.png")
    if limit_pixels == 24:
        assert read_image(path).shape == (3, 4, 6)
        return
    with pytest.raises(DataError, match=r"a\.png has 6 x 4 pixels, more than 23"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "gif", "bmp", "webp"])
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_a_damaged_file_is_read_or_named(tmp_path, suffix, data):
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    plain().save(buffer, {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix), exif=exif)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    read = image_or_message(path)
    if isinstance(read, str):
        assert str(path) in read
    else:
        assert read.dtype == torch.uint8
        assert read.shape[0] == 3


def test_an_image_of_that_size_is_left_as_it_is():
    image = random_images(1)[0]
    assert torch.equal(letterbox(image, 16, 32), image)


def test_an_image_of_that_aspect_is_only_scaled():
    image = torch.full((3, 40, 80), 7, dtype=torch.uint8)
    assert fits(image, 16, 32)
    assert (letterbox(image, 16, 32) == 7).all()


@pytest.mark.parametrize(
    ("height", "width", "picture"),
    [
        (40, 20, np.s_[:, 12:20]),  # 8 wide within 16 x 32
        (10, 80, np.s_[6:10, :]),  # 4 high
    ],
)
def test_another_aspect_is_kept_between_bars_of_the_mean_colour(height, width, picture):
    image = torch.tensor([10, 200, 60], dtype=torch.uint8)[:, None, None]
    image = image.repeat(1, height, width)
    image[1, : height // 2] = 100  # so that the mean of green is 150
    assert not fits(image, 16, 32)
    boxed = letterbox(image, 16, 32)
    bars = torch.ones(16, 32, dtype=torch.bool)
    bars[picture] = False
    assert (boxed[:, bars] == torch.tensor([[10], [150], [60]])).all()
    inside = boxed[(slice(None), *picture)]
    assert inside[:, 0, 0].tolist() == [10, 100, 60]
    assert inside[:, -1, -1].tolist() == [10, 200, 60]


def test_scaling_down_averages_instead_of_picking():
    board = torch.zeros(3, 64, 128, dtype=torch.uint8)
    board[:, ::2, ::2] = board[:, 1::2, 1::2] = 254
    small = letterbox(board, 16, 32)
    assert (small.int() - 127).abs().max() <= 1


def test_what_happens_to_an_image_depends_on_seed_step_and_slot():
    batch = random_images(1).expand(5, -1, -1, -1)
    once = augment(batch, seed=3, step=8)
    assert torch.equal(augment(batch, seed=3, step=8), once)
    assert torch.equal(augment(batch[:2], seed=3, step=8), once[:2])
    others = [augment(batch, 4, 8)[0], augment(batch, 3, 9)[0], *once[1:]]
    assert not any(torch.equal(once[0], other) for other in others)


def test_the_number_of_threads_changes_no_pixel():
    batch, before = random_images(3, 64, 160), torch.get_num_threads()
    results = []
    for num_threads in (1, 2):
        torch.set_num_threads(num_threads)
        tall = letterbox(batch[0], 128, 128)
        results.append((augment(batch, 0, 0), tall))
    torch.set_num_threads(before)
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_the_images_given_stay_as_they_are():
    batch = random_images(4)
    before = batch.clone()
    varied = augment(batch, 0, 0)
    assert torch.equal(batch, before)
    assert varied.dtype == torch.uint8
    assert varied.shape == batch.shape


def test_a_street_stays_recognisable_and_is_never_mirrored():
    """Left stays left: each varied image resembles its original more than its mirror."""
    ramp = torch.linspace(20, 230, 64).expand(3, 32, 64)
    images_ = ramp.round().to(torch.uint8).expand(200, -1, -1, -1)
    varied = augment(images_, 1, 1).float().mean(dim=(1, 2))
    assert (varied[:, 40:].mean(dim=1) > varied[:, :24].mean(dim=1) + 40).all()
    # Light, contrast and colour do vary.
    levels = augment(images_, 1, 1).float().mean(dim=(2, 3))
    assert levels.mean(dim=1).std() > 15
    assert (levels / levels.mean(dim=1, keepdim=True)).std(dim=0).min() > 0.01


def test_a_flat_image_shows_what_light_does():
    """A grey image has no contrast: every pixel of a channel is gained alike, to one level."""
    grey = torch.full((50, 3, 8, 8), 100, dtype=torch.uint8)
    varied = augment(grey, 0, 0).int()
    spread = varied.amax(dim=(2, 3)) - varied.amin(dim=(2, 3))
    assert spread.max() <= 1
    limit = 100 * np.exp(0.45)
    assert varied.max() <= np.ceil(limit)
    assert varied.min() >= np.floor(100 * np.exp(-0.45))


def test_augmentation_does_not_depend_on_the_default_dtype():
    images = torch.randint(0, 256, (2, 3, 16, 24), dtype=torch.uint8)
    plain = augment(images, 1, 2)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(augment(images, 1, 2), plain)
    finally:
        torch.set_default_dtype(torch.float32)


def test_augmentation_of_some_slots_is_that_of_all():
    images = torch.randint(0, 256, (5, 3, 16, 24), dtype=torch.uint8)
    slots = np.array([1, 4])
    assert torch.equal(augment(images[slots], 1, 2, slots=slots), augment(images, 1, 2)[slots])
