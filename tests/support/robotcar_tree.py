"""Writes a tiny Oxford: a straight drive to the north-east, raw Bayer frames, every layout."""

from __future__ import annotations

import io
import math
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

START = 1_417_534_208_000_000
ORIGIN_M = np.array([620_000.25, 5_735_000.5])
HEIGHT, WIDTH = 24, 32
INS_HEADER = (
    "timestamp,ins_status,latitude,longitude,altitude,northing,easting,down,utm_zone,"
    "velocity_north,velocity_east,velocity_down,roll,pitch,yaw"
)
RTK_HEADER = (
    "timestamp,latitude,longitude,altitude,northing,easting,down,utm_zone,"
    "velocity_north,velocity_east,velocity_down,roll,pitch,yaw"
)
HEADING = math.pi / 4
SPEED_M_PER_S = 20.0
NUM = 40
PAPER = (
    "2014-12-02-15-30-08",
    "2015-08-14-14-54-57",
    "2014-11-18-13-20-12",
    "2014-12-17-18-18-43",
    "2015-02-03-08-45-10",
    "2014-05-14-13-50-20",
    "2014-06-26-09-24-58",
    "2015-03-10-14-18-10",
)
REGIONS = """# around the drive of the tests
train
619000 5734000
621000 5734000
621000 5735040
619000 5735040

validation
619000 5735070
621000 5735070
621000 5735100
619000 5735100

test
619000 5735130
621000 5735130
621000 5736000
619000 5736000
"""


def position(stamp, start=START):
    """Where the car is, in closed form."""
    along = SPEED_M_PER_S * (np.asarray(stamp, float) - start) / 1e6
    return ORIGIN_M + along[..., None] * np.array([math.sin(HEADING), math.cos(HEADING)])


def stamps_of(num, start=START):
    return start + 250_000 * np.arange(num) + 62_500


def ins_rows(num, start=START, status="INS_SOLUTION_GOOD", yaw=HEADING, step_us=100_000):
    """Rows of ins.csv that cover ``num`` frames."""
    rows = []
    for stamp in range(start, start + 250_000 * num + step_us, step_us):
        easting, northing = position(stamp, start)
        rows.append(
            f"{stamp},{status},51.76,-1.26,114.7,{northing:.6f},{easting:.6f},-114.7,30U,"
            f"7.07,7.07,0.0,0.0,0.0,{yaw:.6f}"
        )
    return rows


def rtk_rows(num, start=START, yaw=HEADING - math.pi / 2):
    return [row.replace(",INS_SOLUTION_GOOD", "") for row in ins_rows(num, start, yaw=yaw)]


def frame(seed):
    """A raw frame: smooth, so that it compresses and compares."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return ((8 * y + 5 * x + 13 * seed) % 251).astype(np.uint8)


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def write_metadata(folder: Path, num, start=START, chunk_of=None, tags="overcast"):
    """Write timestamps, INS, RTK and tags of a traversal into ``folder``."""
    (folder / "gps").mkdir(parents=True, exist_ok=True)
    stamps = stamps_of(num, start)
    chunks = np.ones(num, int) if chunk_of is None else chunk_of
    lines = [f"{stamp} {chunk}\n" for stamp, chunk in zip(stamps, chunks, strict=True)]
    (folder / "stereo.timestamps").write_text("".join(lines))
    ins = [INS_HEADER, *ins_rows(num, start)]
    (folder / "gps/ins.csv").write_text("\n".join(ins) + "\n")
    rtk = [RTK_HEADER, *rtk_rows(num, start)]
    (folder / "rtk.csv").write_text("\n".join(rtk) + "\n")
    (folder / "tags.csv").write_text(tags + "\n")
    return stamps


def write_images(folder: Path, stamps, seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    for at, stamp in enumerate(stamps):
        (folder / f"{stamp}.png").write_bytes(png(frame(seed + at)))


def write_tar(path: Path, date, stamps, seed=0, extra=()):
    """Write images into a tar as the download has them; ``extra`` are further members."""
    with tarfile.open(path, "w") as tar:
        for at, stamp in enumerate(stamps):
            data = png(frame(seed + at))
            member = tarfile.TarInfo(f"{date}/stereo/centre/{stamp}.png")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for member in extra:
            tar.addfile(member)
    return path


def write_tree(root: Path, layout="extracted", dates=PAPER, num=NUM):
    """Write traversals; ``layout``: extracted, apart or tars."""
    for number, date in enumerate(dates):
        start = START + 10**10 * number
        chunks = 1 + np.arange(num) // (num // 2)
        if layout == "apart":
            stamps = write_metadata(root / f"{date}_gps" / date, num, start, chunks)
            for chunk in (1, 2):
                folder = root / f"{date}_stereo_centre_{chunk:02d}" / date / "stereo/centre"
                part = chunks == chunk
                write_images(folder, stamps[part], int(np.flatnonzero(part)[0]))
            continue
        stamps = write_metadata(root / date, num, start, chunks)
        if layout == "extracted":
            write_images(root / date / "stereo/centre", stamps)
            continue
        for chunk in (1, 2):
            part = chunks == chunk
            path = root / f"{date}_stereo_centre_{chunk:02d}.tar"
            write_tar(path, date, stamps[part], int(np.flatnonzero(part)[0]))
    (root / "regions.txt").write_text(REGIONS)
    return root
