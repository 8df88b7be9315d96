"""The tables of a traversal, extracted or still in a tar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from mlcore.errors import DataError
from mlcore_robotcar.config import Camera, PoseSource
from mlcore_robotcar.download.tars import index_tar, read_member
from mlcore_robotcar.download.tree import Traversal


@dataclass(frozen=True)
class Member:
    """A file within a tar, which is read without being extracted.

    Attributes:
        tar: The tar.
        name: Path in it.
        offset: Where its bytes begin.
        size: How many they are.
    """

    tar: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.tar}/{self.name}"

    def read(self, limit: int) -> bytes:
        """Return the bytes, or as many as ``limit``.

        Raises:
            DataError: They are not there any more.
        """
        return read_member(self.tar, self.offset, min(self.size, limit))


TableFile: TypeAlias = Path | Member


class Tables:
    """Finds the tables of a traversal: in its folders first, in its tars otherwise.

    Args:
        traversal: Where its parts are.
        camera: Whose tars are indexed.
        cache_dir: Folder for the indices of tars; None for the user's.

    Attributes:
        faults: Tars that had to be looked into and cannot be used, in words.
    """

    def __init__(
        self, traversal: Traversal, camera: Camera, cache_dir: Path | None = None
    ) -> None:
        self._traversal = traversal
        self._camera = camera
        self._cache_dir = cache_dir
        self.faults: list[str] = []

    def track(self, poses: PoseSource) -> TableFile | None:
        """Return where the poses are."""
        if poses == "ins":
            return self._find(("gps/ins.csv",), "gps")
        return self._find(("rtk.csv", "gps/rtk.csv"), "rtk", "gps")

    def tags(self) -> TableFile | None:
        """Return where the tags are."""
        return self._find(("tags.csv", "tags/tags.csv", "tags.yaml", "tags.yml"), "tags")

    def timestamps(self) -> TableFile | None:
        """Return where the frames of the camera are listed.

        Faults of its tars are not reported here, but where their images are listed.
        """
        name = f"{self._camera.split('/')[0]}.timestamps"
        found = self._traversal.find(name)
        tars = [path for _, paths in sorted(self._traversal.tars.items()) for path in paths]
        return found or next(self._members(tars, (name,), []), None)

    def _find(self, names: Sequence[str], *sensors: str) -> TableFile | None:
        tars = [path for sensor in sensors for path in self._traversal.tars_of(sensor)]
        found = self._traversal.find(*names)
        return found or next(self._members(tars, names, self.faults), None)

    def _members(
        self, tars: Sequence[Path], names: Sequence[str], faults: list[str]
    ) -> Iterator[Member]:
        for path in tars:
            try:
                index = index_tar(path, self._camera, self._cache_dir)
            except DataError as error:
                faults.append(str(error))
                continue
            if index.truncated:
                faults.append(f"{path} is truncated: {index.truncated}; download it again")
            for name in names:
                for listed in (name, f"{self._traversal.date}/{name}"):
                    for member, (offset, size) in index.tables.items():
                        if member.removeprefix("./") == listed:
                            yield Member(path, member, offset, size)
