"""The folder of a comparison that cannot begin: nothing is left, and nothing is touched."""

from __future__ import annotations

import pytest

from mlcore.cli.main import main


@pytest.mark.parametrize("parallel", [[], ["--parallel", "2"]])
@pytest.mark.parametrize("existed", [False, True])
def test_data_that_do_not_open_leave_no_folder(tmp_path, capsys, parallel, existed):
    out = tmp_path / "out"
    if existed:
        out.mkdir()
    words = ["compare", "--losses", "proposed,triplet", "--dataset", "images", "--dataset.root"]
    assert main([*words, str(tmp_path / "nowhere"), *parallel, "--out", str(out)]) == 2
    assert "nowhere, which does not exist" in capsys.readouterr().err
    assert out.exists() == existed
    assert not existed or list(out.iterdir()) == []


def test_a_folder_of_something_else_is_left_alone(tmp_path, capsys):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "mine.txt").write_text("x")
    assert main(["compare", "--losses", "proposed,triplet", "--out", str(tmp_path)]) == 2
    assert "is not empty and does not hold a comparison" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["logs", "mine.txt"]
