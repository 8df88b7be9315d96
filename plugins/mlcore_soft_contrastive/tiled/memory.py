"""Memory for similarities: scratch for each thread's tile, and tiles kept for later passes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

KEPT_SHARE, KEPT_SHARE_MINING, KEPT_FLOATS = 3, 5, 2**20
"""Similarities kept from pass to pass: multiples of the embeddings' own memory, and more.

Mining needs a near tile four times, not twice.
"""


def most_kept(embedding_floats: int, *, mining: bool) -> int:
    """Return how many floats kept similarities may take, with scratch beyond the first tile.

    Args:
        embedding_floats: Of the rows and, in the rectangular form, the columns.
        mining: Whether there are four passes over near tiles instead of two.
    """
    return (KEPT_SHARE_MINING if mining else KEPT_SHARE) * embedding_floats + KEPT_FLOATS


class TileMemory:
    """Where the similarities of tiles are written.

    Args:
        like: A tensor of the similarities' dtype and device.
        sizes: Number of pairs of each tile.
        largest: Number of pairs of the largest tile.
        threads: How many tiles are worked on at once.
        most: How many floats kept tiles may take, with scratch beyond the first tile; None
            keeps every tile.
    """

    def __init__(
        self, like: Tensor, sizes: Sequence[int], largest: int, threads: int, most: int | None
    ) -> None:
        self._sizes = [_whole_lines(size) for size in sizes]
        # One scratch tile per thread, taken and put back.
        self._scratch = list(like.new_empty(threads, _whole_lines(largest)))
        self._kept: dict[int, Tensor] = {}
        floats = sum(self._sizes)
        if most is not None:
            floats = min(floats, max(0, most - (threads - 1) * _whole_lines(largest)))
        # One piece, which goes back to the system as a whole; the heap may keep tiles.
        self._free = like.new_empty(floats)
        self._taking = threading.Lock()

    @contextmanager
    def scratch(self) -> Iterator[Tensor]:
        """Lend memory for the largest tile to the calling thread."""
        taken = self._scratch.pop()
        try:
            yield taken
        finally:
            self._scratch.append(taken)

    def kept(self, k: int) -> Tensor | None:
        """Return the memory of tile ``k`` if its similarities were kept."""
        return self._kept.get(k)

    def keep(self, k: int) -> Tensor | None:
        """Return memory in which tile ``k`` stays for later passes, None if none is left."""
        size = self._sizes[k]
        with self._taking:
            if size > len(self._free):
                return None
            self._kept[k], self._free = self._free[:size], self._free[size:]
        return self._kept[k]

    def forget(self, k: int) -> None:
        """Give up what was kept of tile ``k``, if anything: it is about to be overwritten."""
        self._kept.pop(k, None)

    def close(self) -> None:
        """Keep no more tiles."""
        self._free = self._free.new_empty(0)


def _whole_lines(floats: int) -> int:
    """Return ``floats``, rounded up to 64 bytes of float32.

    Where a product is written then never changes the way it is computed.
    """
    return -(-floats // 16) * 16
