"""Synthetic raw frames of RobotCar, and the same work in a bare loop and in ``prepare``."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import cv2
import numpy as np

DATE = "2014-12-02-15-30-08"
HEIGHT, WIDTH = 960, 1280
LONGEST_PX = 240
_START_US = 1_417_534_208_000_000
_FRAME_US = 62_500
_DIFFERENT = 16
_NOISE = 6.0
"""Grey levels: the frames then have about 1 MB, as Oxford's have."""
_HEADER = "timestamp,ins_status,northing,easting,yaw"


def write_trees(folder: Path, num_frames: int) -> tuple[Path, Path]:
    """Write one traversal twice: extracted, and with its images in a tar."""
    pictures = [_frame(seed) for seed in range(_DIFFERENT)]
    files = {_START_US + _FRAME_US * at: pictures[at % _DIFFERENT] for at in range(num_frames)}
    extracted, packed = folder / "extracted", folder / "packed"
    images = extracted / DATE / "stereo/centre"
    images.mkdir(parents=True)
    packed.mkdir()
    for root in (extracted, packed):
        _write_track(root / DATE, num_frames)
    for stamp, data in files.items():
        (images / f"{stamp}.png").write_bytes(data)
    with tarfile.open(packed / f"{DATE}_stereo_centre_01.tar", "w") as tar:
        for stamp, data in files.items():
            member = tarfile.TarInfo(f"{DATE}/stereo/centre/{stamp}.png")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return extracted, packed


def _frame(seed: int) -> bytes:
    """Return a PNG: large shapes, noise of a sensor, each colour of the mosaic of its own."""
    generator = np.random.default_rng(seed)
    coarse = generator.uniform(30, 220, (12, 16, 3)).astype(np.float32)
    colour = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    raw = colour[..., 1].copy()
    raw[0::2, 1::2], raw[1::2, 0::2] = colour[0::2, 1::2, 2], colour[1::2, 0::2, 0]
    raw += generator.normal(0, _NOISE, raw.shape).astype(np.float32)
    done, data = cv2.imencode(".png", raw.clip(0, 255).astype(np.uint8))
    assert done, "OpenCV encodes 8-bit images"
    return data.tobytes()


def _write_track(folder: Path, num_frames: int) -> None:
    (folder / "gps").mkdir(parents=True)
    stamps = range(_START_US - 100_000, _START_US + _FRAME_US * num_frames + 100_000, 20_000)
    rows = [
        f"{stamp},INS_SOLUTION_GOOD,{5_735_000 + 1e-5 * (stamp - _START_US):.6f},620000.0,0.0"
        for stamp in stamps
    ]
    (folder / "gps/ins.csv").write_text("\n".join([_HEADER, *rows, ""]))


def bare_loop(root: Path, out: Path) -> None:
    """Read, demosaic, scale down and write every image of an extracted tree, and no more."""
    cv2.setNumThreads(1)
    out.mkdir()
    size = LONGEST_PX, LONGEST_PX * HEIGHT // WIDTH
    for path in sorted((root / DATE / "stereo/centre").iterdir()):
        raw = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert raw is not None, path
        colour = cv2.cvtColor(raw, cv2.COLOR_BayerGBRG2BGR)
        small = cv2.resize(colour, size, interpolation=cv2.INTER_AREA)
        target = str(out / f"{path.stem}.jpg")
        cv2.imwrite(target, small, [cv2.IMWRITE_JPEG_QUALITY, 95])


def prepared(root: Path, out: Path) -> None:
    """Do it with ``mlcore data prepare``, in one process: tables, poses and index included."""
    from mlcore.protocols import no_progress
    from mlcore_robotcar.config import RobotCarConfig
    from mlcore_robotcar.prepare.prepare import prepare_robotcar

    prepare_robotcar(RobotCarConfig(root=root, num_processes=1), out, no_progress)
