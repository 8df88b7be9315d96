"""Independent seeds for the parts of a run, all from the run's one seed."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed for the part of a run called ``names``.

    Parts get unrelated streams, so that drawing more in one never shifts another.
    """
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
