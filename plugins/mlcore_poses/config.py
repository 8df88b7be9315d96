"""Options of the data set ``poses``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from mlcore.option_types import POSITIVE, RelativeTo, check_ranges

Format = Literal["colmap", "tum", "kitti"]


@dataclass(frozen=True, kw_only=True)
class PosesConfig:
    """Options of images with camera poses.

    A range of frames is ``low..high``, numbered from 0 in the order of the poses, both ends
    included; either may be left out. ``..`` is every frame.

    Attributes:
        root: Folder of the images, looked for in its folders too.
        poses: File of the poses: images.txt or images.bin of a COLMAP model, or a TUM or KITTI
            trajectory; looked for in root, then in the working folder.
        format: colmap (world-to-camera, images by name), tum (a timestamp, position and
            quaternion per line) or kitti (a 3 x 4 matrix per line).
        axes: Axes of the poses that point east and north, such as x,z or x,-y. none: x,z for
            kitti, x,y otherwise.
        metres_per_unit: Metres per unit of the positions; needed for colmap, whose scale is
            arbitrary. none: 1.
        max_gap_s: Largest time (seconds) between an image that is named by its timestamp and
            its pose; other images are left out. For tum.
        train: Range of the training frames.
        validation: Range of the validation frames.
        test: Range of the test frames.
        queries: Range of the query frames of every split; the others are references.
        accept_faults: Names of faults, as 'mlcore data check' lists them, that do not stop
            training or evaluation.
    """

    root: Path | None = None
    poses: Annotated[Path | None, RelativeTo("root")] = None
    format: Format = "kitti"
    axes: str = ""
    metres_per_unit: Annotated[float | None, POSITIVE] = None
    max_gap_s: Annotated[float, POSITIVE] = 0.05
    train: str = ""
    validation: str = ""
    test: str = ""
    queries: str = ""
    accept_faults: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_ranges(self)
