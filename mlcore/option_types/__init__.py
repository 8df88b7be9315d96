"""The types and ranges that options may have; their values as text, in TOML and back.

An option is a field of a frozen dataclass. Its type is one of bool, int, float, str,
``pathlib.Path``, a ``Literal`` of strings or integers, a tuple of these, a number or a
``Literal``, or one of all that ``| None``: what a person can type on a command line and
read in a TOML file. TOML has no null, so None is the word "none" there and on the command
line.

A number says which values make sense, and a path what it is relative to, by annotation::

    margin: Annotated[float, Range(at_least=0)] = 0.1
    temperature: Annotated[float, POSITIVE] = 0.07
    table: Annotated[Path | None, RelativeTo("root")] = None

The range is shown in help and reference, and a value outside it is refused before any work.
"""

from __future__ import annotations

from mlcore.option_types.option import (
    Option,
    check_options,
    check_ranges,
    options_of,
    require_unchanged,
)
from mlcore.option_types.ranges import (
    AT_LEAST_ONE,
    FINITE,
    FRACTION,
    NOT_NEGATIVE,
    POSITIVE,
    Range,
    RelativeTo,
)
from mlcore.option_types.values import (
    NONE,
    allows_none,
    from_plain,
    from_text,
    item_hints,
    members,
    plain_text,
    to_plain,
    type_name,
)

__all__ = [
    "AT_LEAST_ONE",
    "FINITE",
    "FRACTION",
    "NONE",
    "NOT_NEGATIVE",
    "POSITIVE",
    "Option",
    "Range",
    "RelativeTo",
    "allows_none",
    "check_options",
    "check_ranges",
    "from_plain",
    "from_text",
    "item_hints",
    "members",
    "options_of",
    "plain_text",
    "require_unchanged",
    "to_plain",
    "type_name",
]
