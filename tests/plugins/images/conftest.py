"""The folder of images that several tests of ``images`` open."""

from __future__ import annotations

import pytest

from tests.support.image_folders import save


@pytest.fixture
def route(tmp_path):
    """Six places of a straight path in two seasons."""
    lines = ["path,easting_m,northing_m,condition,frame"]
    for season in ("autumn", "snow"):
        for frame in range(6):
            lines.append(f"{season}/{frame}.png,{frame}.0,0.0,{season},{frame}")
            save(tmp_path / season / f"{frame}.png", colour=(frame, 0, 0))
    (tmp_path / "positions.csv").write_text("\n".join(lines) + "\n")
    return tmp_path
