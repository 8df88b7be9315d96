"""The page on one's own images leads from photographs with GPS to a program that localizes."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from mlcore.cli.main import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "own-images.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(sh|py)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_photographs_lead_to_a_localizing_program(tmp_path, monkeypatch, capsys):
    """As written, but for the number of steps; the program has only the map."""
    monkeypatch.chdir(tmp_path)
    photos = Path("photos")
    photos.mkdir()
    for photo in sorted((ROOT / "examples" / "seneca").rglob("*.jpg")):
        shutil.copy(photo, photos)
    (commands,) = [text for kind, text in BLOCKS if kind == "sh"]
    (program,) = [text for kind, text in BLOCKS if kind == "py"]
    assert len(program.splitlines()) <= 10
    for line in commands.splitlines():
        mlcore, *words = shlex.split(line.replace("max_steps 60", "max_steps 1"))
        assert mlcore == "mlcore"
        assert main(words) == 0, line
    num_photos = len([*photos.iterdir()])
    assert f"{num_photos} references, {num_photos} of them with a position" in (
        capsys.readouterr().out
    )
    robot = Path("robot")
    robot.mkdir()
    shutil.copy(photos / "120.jpg", robot / "photo.jpg")
    shutil.move("town", robot / "town")
    shutil.rmtree(photos)
    shutil.rmtree("runs")
    monkeypatch.chdir(robot)
    exec(compile(program, "own-images.md", "exec"), {})
    first = capsys.readouterr().out.split()
    assert first[0] == "120.jpg"
    assert float(first[1]) == pytest.approx(41.037, abs=0.01)
    assert float(first[3]) == pytest.approx(0.0, abs=1e-3)
