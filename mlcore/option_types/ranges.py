"""Annotations of options: ranges of numbers, and folders of relative paths."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Range:
    """The numbers that an option accepts; for a tuple, each of its items.

    NaN is always refused; infinity unless ``infinite`` is set. A number without a range
    accepts every finite value.

    Attributes:
        at_least: Smallest value.
        above: The value must be greater than this.
        at_most: Largest value.
        below: The value must be less than this.
        infinite: Whether infinity is accepted.
    """

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    infinite: bool = False

    def __contains__(self, value: float) -> bool:
        """Return whether the option accepts the number."""
        return (
            not math.isnan(value)
            and (self.infinite or math.isfinite(value))
            and (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        """Return the range in words: "at least 1", "between 0 and 180"; none: empty."""
        if self.at_least is not None and self.at_most is not None:
            return f"between {_text(self.at_least)} and {_text(self.at_most)}"
        bounds = {
            "greater than": self.above,
            "at least": self.at_least,
            "less than": self.below,
            "at most": self.at_most,
        }
        return " and ".join(f"{word} {_text(n)}" for word, n in bounds.items() if n is not None)


def _text(number: float) -> str:
    return f"{number:,.0f}" if number >= 1e6 else f"{number:g}"


FINITE = Range()
POSITIVE = Range(above=0)
NOT_NEGATIVE = Range(at_least=0)
AT_LEAST_ONE = Range(at_least=1)
FRACTION = Range(at_least=0, at_most=1)


@dataclass(frozen=True)
class RelativeTo:
    """A relative path lies in the folder that another option names.

    Where that option is none, and where only the working folder has such a file, it is
    relative to the working folder, as paths of options are otherwise.

    Attributes:
        option: Name of the other option of the same dataclass.
    """

    option: str
