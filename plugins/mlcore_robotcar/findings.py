"""Notes that differ in names and numbers only, as one finding."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

from mlcore.factories import Finding

_MAX_EXAMPLES = 5
_NUMBERED = re.compile(r"\S*\d\S*")


def grouped(
    severity: Literal["warning", "fault"], notes: Sequence[str], *, name: str = ""
) -> list[Finding]:
    """Return a finding per kind of note: a tree of 133 traversals repeats itself.

    Args:
        severity: Of all of them.
        notes: Messages.
        name: Of the findings.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for note in notes:
        groups[_NUMBERED.sub("#", note)].append(note)
    return [
        Finding(severity, alike[0], name=name)
        if len(alike) == 1
        else Finding(
            severity,
            f"{alike[0]} (and {len(alike) - 1} like it)",
            len(alike),
            tuple(alike[1 : 1 + _MAX_EXAMPLES]),
            name,
        )
        for alike in groups.values()
    ]
