"""Where the images of the data set come from: one interface, a class for each layout."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import DataError
from mlcore.protocols import Progress, no_progress
from mlcore_robotcar.config import RobotCarConfig
from mlcore_robotcar.download.traversal import PosedFrames, read_traversal
from mlcore_robotcar.download.tree import find_traversals
from mlcore_robotcar.regions import Cut

if TYPE_CHECKING:
    from torch import Tensor


class Columns(NamedTuple):
    """What is known of the images of a traversal, in the order of time.

    Attributes:
        positions_m: ``(n, 2)`` float64, easting and northing.
        headings_rad: ``(n,)`` float64, or None.
        arc_length_m: ``(n,)`` float64.
    """

    positions_m: NDArray[np.float64]
    headings_rad: NDArray[np.float64] | None
    arc_length_m: NDArray[np.float64]


class Source(Protocol):
    """Traversals with their images; a traversal goes by its place in ``dates``.

    Attributes:
        layout: What it is, in words.
        dates: Names of the traversals, in the order of time.
        conditions: Condition of each.
        sizes: Number of images of each.
        has_headings: Whether headings are known.
        notes: What was found and what was left out.
    """

    layout: str
    dates: list[str]
    conditions: list[str]
    sizes: list[int]
    has_headings: bool
    notes: list[str]

    def regions(self, number: int, cut: Cut | None) -> NDArray[np.int8]:
        """Return the region of each image, -1 outside all; None: as prepared."""
        ...

    def columns(self, number: int) -> Columns:
        """Return what is known of the images of a traversal."""
        ...

    def timestamps(self, number: int) -> NDArray[np.int64]:
        """Return when the images of a traversal were taken, in microseconds."""
        ...

    def load(self, number: int, row: int) -> Tensor:
        """Return an image as uint8 ``(3, H, W)``, RGB."""
        ...

    def name(self, number: int, row: int) -> str:
        """Return what a person would call an image."""
        ...

    def digest(self) -> str:
        """Return what changes with any image or position."""
        ...


class RawSource:
    """The download itself: each image is developed on demand.

    Args:
        config: Options.
        root: Folder of the tree.
        cache_dir: Folder for the indices of tars; None for the user's.
        progress: Progress callback, by traversals read.

    Attributes:
        traversals: Those with images that have a pose.
        warnings: What was found odd; part of ``notes``.
        faults: Problems that make results wrong; part of ``notes``.

    Raises:
        DataError: No image there has a pose.
    """

    layout = "raw tree"
    has_headings = True

    def __init__(
        self,
        config: RobotCarConfig,
        root: Path,
        cache_dir: Path | None = None,
        progress: Progress = no_progress,
    ) -> None:
        self._config = config
        if config.distortion_table is not None:
            from mlcore_robotcar.prepare.decode import lookup_file

            lookup_file(config.distortion_table, config.camera)
        found = find_traversals(root, config.camera, config.rtk_root)
        if not found:
            raise DataError(
                f"{root} holds no layout of RobotCar: neither what 'mlcore data prepare "
                "robotcar' wrote, nor folders named like 2014-12-02-15-30-08 or tars such as "
                "2014-12-02-15-30-08_stereo_centre_01.tar, nor images prepared by third parties"
            )
        kept = {date: one for date, one in found.items() if date not in config.leave_out}
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.faults: list[str] = []
        self.traversals: list[PosedFrames] = []
        progress("reading traversals", 0, len(kept))
        for done, traversal in enumerate(kept.values(), start=1):
            posed = read_traversal(traversal, config, cache_dir)
            self._take(posed)
            progress("reading traversals", done, len(kept))
        if len(kept) < len(found):
            left_out = ", ".join(date for date in found if date not in kept)
            self.notes.append(f"left out by dataset.leave_out: {left_out}")
        if not self.traversals:
            raise DataError(
                f"no image of {config.camera} in {root} has a pose"
                + "".join(f"; {line}" for line in self.notes[:3])
            )
        self.dates = [posed.date for posed in self.traversals]
        self.conditions = [posed.condition for posed in self.traversals]
        self.sizes = [len(posed) for posed in self.traversals]
        if config.distortion_table is None:
            self.notes.append("no distortion table is given: images stay distorted")

    def _take(self, posed: PosedFrames) -> None:
        without = [
            f"{posed.date}: {count} images are {reason}: left out"
            for reason, count in posed.without_pose.items()
        ]
        self.warnings += [*posed.notes, *without]
        self.faults += posed.faults
        self.notes += [*posed.faults, *posed.notes, *without]
        if len(posed):
            self.traversals.append(posed)

    def regions(self, number: int, cut: Cut | None) -> NDArray[np.int8]:
        """Return the region of each image."""
        assert cut is not None, "a raw tree has no regions of its own"
        posed = self.traversals[number]
        stamps = posed.frames.timestamps[posed.rows]
        return cut.codes(posed.date, stamps, posed.positions_m)

    def columns(self, number: int) -> Columns:
        """Return what is known of the images of a traversal."""
        posed = self.traversals[number]
        return Columns(posed.positions_m, posed.headings_rad, posed.arc_length_m)

    def timestamps(self, number: int) -> NDArray[np.int64]:
        """Return the timestamps of a traversal."""
        posed = self.traversals[number]
        return posed.frames.timestamps[posed.rows]

    def load(self, number: int, row: int) -> Tensor:
        """Return an image, developed as ``prepare`` would."""
        import torch

        from mlcore_robotcar.prepare.decode import decode_png, develop

        posed, config = self.traversals[number], self._config
        at = int(posed.rows[row])
        raw = decode_png(posed.frames.read(at), posed.frames.name(at))
        image = develop(raw, config.camera, config.distortion_table, config.longest_side_px)
        return torch.from_numpy(image).permute(2, 0, 1).contiguous()

    def name(self, number: int, row: int) -> str:
        """Return the image's path."""
        posed = self.traversals[number]
        return posed.frames.name(int(posed.rows[row]))

    def digest(self) -> str:
        """Return what changes with any position, or with how images are developed."""
        options = self._config
        digest = hashlib.blake2b(digest_size=16)
        words = (options.camera, options.longest_side_px, options.distortion_table)
        digest.update(repr(words).encode())
        for posed in self.traversals:
            digest.update(posed.date.encode())
            digest.update(posed.frames.timestamps[posed.rows].tobytes())
            digest.update(posed.positions_m.tobytes())
            digest.update(posed.headings_rad.tobytes())
        return digest.hexdigest()
