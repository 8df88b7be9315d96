"""The condition of a traversal, as one word for weather and light."""

from __future__ import annotations

from collections.abc import Sequence

UNKNOWN = "unknown"
_BY_WEIGHT = ("night", "snow", "rain", "dusk", "sun", "overcast", "clouds")
"""What changes a picture most comes first: a traversal has several tags."""
_PAPER = {
    "2014-12-02-15-30-08": "overcast",
    "2015-08-14-14-54-57": "overcast",
    "2014-11-18-13-20-12": "sun",
    "2014-12-17-18-18-43": "night",
    "2015-02-03-08-45-10": "snow",
}
"""The paper's words of its five test traversals, where there are no tags."""


def condition_of(date: str, tags: Sequence[str]) -> str:
    """Return the condition of a traversal: the weightiest of its tags, or "unknown"."""
    for word in _BY_WEIGHT:
        if word in tags:
            return "overcast" if word == "clouds" else word
    return _PAPER.get(date, UNKNOWN)
