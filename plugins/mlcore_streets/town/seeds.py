"""Random numbers of the town: one stream for each thing, all from the town's seed."""

from __future__ import annotations

import zlib

import numpy as np


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return the generator of the thing called ``names``.

    Things get unrelated streams, so that drawing more for one never changes another.
    """
    keys = [zlib.crc32(str(name).encode()) for name in names]
    return np.random.default_rng([seed, *keys])
