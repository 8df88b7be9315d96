"""Every number that a component takes has a range, which its help and its errors name."""

from __future__ import annotations

import math

import pytest

from mlcore.option_types import members, options_of
from mlcore.registry.discovery import Registry


def numeric_options():
    seen = set()
    for _, factory in Registry.discover()._provided:
        for config in (factory.config, getattr(factory, "write_config", None)):
            if config is None or config in seen:
                continue
            seen.add(config)
            for option in options_of(config):
                hints = [a for m in members(option.hint) for a in getattr(m, "__args__", (m,))]
                if {int, float} & {hint for hint in hints if isinstance(hint, type)}:
                    yield pytest.param(option, id=f"{config.__name__}.{option.name}")


@pytest.mark.parametrize("option", list(numeric_options()))
def test_every_number_has_a_range(option):
    assert str(option.range) != ""
    number = option.default[0] if isinstance(option.default, tuple) else option.default
    is_whole = isinstance(number, int)
    for value in [-(10**9)] if is_whole else [-math.inf, math.nan]:
        wrong = (value,) if isinstance(option.default, tuple) else value
        with pytest.raises(ValueError, match="must be "):
            option.check(wrong)
