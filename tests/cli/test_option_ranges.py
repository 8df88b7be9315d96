"""Values that make no sense are refused in one sentence that names the range."""

from __future__ import annotations

import pytest

from mlcore.cli.main import main
from mlcore.option_types import options_of
from mlcore.options import ENGINE

STREETS = {
    "town_seed -1": "must be at least 0, got -1",
    "train_length_m 59": "must be between 60 and 20000, got 59.0",
    "validation_length_m nan": "must be between 60 and 20000, got nan",
    "test_length_m inf": "must be between 60 and 20000, got inf",
    "reference_spacing_m 0": "must be between 0.5 and 20, got 0.0",
    "query_spacing_m -4": "must be between 0.5 and 20, got -4.0",
    "image_width_px 31": "must be between 32 and 1024, got 31",
    "image_height_px 2000": "must be between 32 and 1024, got 2000",
    "num_processes 0": "must be between 1 and 256, got 0",
}
ROBOTCAR = {
    "max_gap_s 0": "must be greater than 0, got 0.0",
    "max_gap_s nan": "must be greater than 0, got nan",
    "longest_side_px 15": "must be at least 16, got 15",
    "jpeg_quality 101": "must be between 1 and 100, got 101",
    "num_processes 0": "must be between 1 and 256, got 0",
    "exposure_percentiles -1,99": "must be between 0 and 100, got -1.0,99.0",
    "exposure_percentiles 1,inf": "must be between 0 and 100, got 1.0,inf",
    "max_offset_m -5": "must be greater than 0, got -5.0",
}
MODEL = {
    "longest_side_px 0": "must be at least 32, got 0",
    "input_width_px -3": "must be at least 32, got -3",
    "embedding_dim 0": "must be at least 1, got 0",
    "num_clusters 0": "must be at least 1, got 0",
    "width 0": "must be at least 8, got 0",
}
CASES = [
    *(("streets", f"--dataset.{option}", message) for option, message in STREETS.items()),
    *(("robotcar", f"--dataset.{option}", message) for option, message in ROBOTCAR.items()),
    *(("streets", f"--model.{option}", message) for option, message in MODEL.items()),
]


@pytest.mark.parametrize(("dataset", "words", "message"), CASES)
def test_a_value_out_of_range(capsys, dataset, words, message):
    option, value = words.split()
    assert main(["train", "--dataset", dataset, option, value]) == 2
    assert capsys.readouterr().err == f"mlcore: error: {option} {message}\n"


INTEGERS = [
    f"--{section}.{option.name}"
    for section, config in ENGINE.items()
    for option in options_of(config)
    if option.hint is int
]


@pytest.mark.parametrize("flag", [*INTEGERS, "--seed", "--model.embedding_dim"])
@pytest.mark.parametrize("value", ["1e20", "1" + "0" * 20, "1e400", "inf", "1.5"])
def test_an_integer_that_is_none_or_too_large(capsys, flag, value):
    assert main(["train", flag, value, "--print-config"]) == 2
    last = capsys.readouterr().err
    assert last.startswith(f"mlcore: error: {flag}")
    assert last.count("\n") == 1
    assert f"got {value}" in last or f"got '{value}'" in last


def test_percentiles_in_the_wrong_order(capsys, tmp_path):
    words = ["--exposure_percentiles", "99,1", "--root", str(tmp_path), "--out", "out"]
    assert main(["data", "prepare", "robotcar", *words]) == 2
    assert "two increasing numbers, got 99,1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("form", "words", "message"),
    [
        ("pittsburgh", "--jpeg_quality 0", "jpeg_quality must be between 1 and 100, got 0"),
        ("robotcar", "--enlarge 17", "enlarge must be between 1 and 16, got 17"),
        ("robotcar", "--chunk_frames 0", "chunk_frames must be at least 1, got 0"),
    ],
)
def test_options_of_writing_have_ranges(capsys, tmp_path, form, words, message):
    out = tmp_path / "out"
    argv = ["data", "write", form, "--from", "streets", *words.split(), "--out", str(out)]
    assert main(argv) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()
