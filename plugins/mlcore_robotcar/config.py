"""Options of the data set ``robotcar``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from mlcore.errors import ConfigError
from mlcore.factories import SamplingRadii
from mlcore.option_types import (
    POSITIVE,
    Range,
    check_ranges,
    require_unchanged,
)

Layout = Literal["auto", "prepared", "raw", "csv", "names", "mat"]
Camera = Literal[
    "stereo/centre", "stereo/left", "stereo/right", "mono_left", "mono_right", "mono_rear"
]
PoseSource = Literal["ins", "rtk"]
Protocol = Literal["paper", "all"]

RADII = SamplingRadii(near_radius_m=15.0, far_radius_m=15.0)

BAD_DATES = (
    "2014-06-25-16-45-34",
    "2014-08-11-10-49-42",
    "2014-08-11-10-59-18",
    "2014-11-14-16-34-33",
    "2015-05-26-13-59-22",
    "2015-05-29-09-36-29",
    "2015-08-04-09-12-27",
    "2015-08-27-10-06-57",
    "2015-08-27-16-07-13",
)
"""Traversals that the paper leaves out."""


@dataclass(frozen=True, kw_only=True)
class RobotCarConfig:
    """Options of Oxford RobotCar.

    Attributes:
        root: Folder of the data: the output of 'mlcore data prepare robotcar', the
            downloaded tree (tars extracted or not), or images prepared by third parties.
        layout: Layout of root. auto: detected. prepared: by mlcore; raw: the download; csv:
            folders DATE_stereo_centre_NN with tables date,folder,t,easting,northing,yaw;
            names: @northing@easting@date@frame@timestamp@.jpg; mat: dbStruct files with
            images RUN/stereo/left/images/TIMESTAMP.png, whose splits hold unless other
            traversals, regions or another protocol are given.
        camera: Camera whose images are used. Raw tree only.
        poses: File of poses. ins: the rows of gps/ins.csv that are INS_SOLUTION_GOOD; rtk:
            rtk.csv. The two are never mixed, because the zeros of their yaws differ. Raw tree
            only.
        rtk_root: Folder with DATE/rtk.csv. none: root. Raw tree only.
        max_gap_s: Largest time (seconds) between the two pose rows around an image; images in
            longer gaps are left out. Raw tree only.
        distortion_table: Table to undistort with, the camera's *_distortion_lut.bin of the
            data set's SDK, or its folder. none: images stay distorted. Raw tree only.
        longest_side_px: Images are scaled down to at most this many pixels. Raw tree only.
        image_format: Format of the images that 'prepare' writes.
        jpeg_quality: JPEG quality of the images that 'prepare' writes, 1 to 100.
        num_processes: Number of processes of 'prepare'. none: one per core.
        exposure_percentiles: 'prepare' drops the images of a traversal whose sum of pixel
            values is below the first or above the second percentile. 0,100: drop
            none.
        max_offset_m: 'prepare' drops images farther (metres) from the median position of
            their 1 m bin along the reference traversal. none: drop none.
        leave_out: Traversals to exclude; the default is the paper's list.
        regions: Text file with the polygons (UTM metres) of the regions train, validation and
            test. none: regions.txt in root, or mlcore's own regions of Oxford.
        protocol: paper: the reference and the four query dates of the paper, and its
            validation dates. all: the first traversal is the reference, all others are
            queries, in every region. The next four options override it.
        reference: Reference traversal of the test and of training.
        queries: Query traversals of the test; never used in training.
        validation_reference: Reference traversal of the validation.
        validation_queries: Query traversals of the validation.
        accept_faults: Names of faults, as 'mlcore data check' lists them, that do not stop
            training or evaluation.
    """

    root: Path | None = None
    layout: Layout = "auto"
    camera: Camera = "stereo/centre"
    poses: PoseSource = "ins"
    rtk_root: Path | None = None
    max_gap_s: Annotated[float, POSITIVE] = 1.0
    distortion_table: Path | None = None
    longest_side_px: Annotated[int, Range(at_least=16)] = 240
    image_format: Literal["jpeg", "png"] = "jpeg"
    jpeg_quality: Annotated[int, Range(at_least=1, at_most=100)] = 95
    num_processes: Annotated[int | None, Range(at_least=1, at_most=256)] = None
    exposure_percentiles: Annotated[tuple[float, float], Range(at_least=0, at_most=100)] = (
        1.0,
        99.0,
    )
    max_offset_m: Annotated[float | None, POSITIVE] = 5.0
    leave_out: tuple[str, ...] = BAD_DATES
    regions: Path | None = None
    protocol: Protocol = "paper"
    reference: str = ""
    queries: tuple[str, ...] = ()
    validation_reference: str = ""
    validation_queries: tuple[str, ...] = ()
    accept_faults: tuple[str, ...] = ()


_OF_RAW = frozenset(
    {"camera", "poses", "rtk_root", "max_gap_s", "distortion_table", "longest_side_px"}
)
"""Options that are read with the raw tree only; tables of third parties read the camera too."""
_OF_PREPARE = (
    "image_format",
    "jpeg_quality",
    "num_processes",
    "exposure_percentiles",
    "max_offset_m",
)


def expect_read(config: RobotCarConfig, find_layout: Callable[[Path], str] | None) -> None:
    """Refuse options that are not read where the data set is opened, or prepared.

    Args:
        config: The options.
        find_layout: Finds the layout of a folder; None to prepare the raw tree.

    Raises:
        ConfigError: Names the option.
    """
    if find_layout is not None:
        require_unchanged(
            "dataset", config, _OF_PREPARE, "images that are there; 'data prepare' uses it"
        )
    elif config.image_format == "png":
        require_unchanged(
            "dataset", config, ("jpeg_quality",), "image_format png; leave it out"
        )
    if config.poses == "ins":
        require_unchanged("dataset", config, ("rtk_root",), "poses ins; choose poses rtk")
    default = RobotCarConfig()
    changed = any(getattr(config, name) != getattr(default, name) for name in _OF_RAW)
    if find_layout is None or config.root is None or not changed:
        return
    layout = find_layout(config.root) if config.layout == "auto" else config.layout
    if layout != "raw":
        ignored = _OF_RAW - ({"camera"} if layout == "csv" else set())
        require_unchanged(
            "dataset", config, ignored, f"layout {layout}; only the raw tree uses it"
        )


def expect_sensible(config: RobotCarConfig) -> None:
    """Refuse values that cannot work.

    Raises:
        ConfigError: Names the option.
    """
    try:
        check_ranges(config)
    except ValueError as error:
        raise ConfigError(f"dataset.{error}") from None
    low, high = config.exposure_percentiles
    if low >= high:
        raise ConfigError(
            f"dataset.exposure_percentiles must be two increasing numbers, got {low:g},{high:g}"
        )
