"""Numbers outside their range are refused, with option and value."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from cases import FACTORIES, batch_at, build

from mlcore import BuildContext, ConfigError, DataError

NUMBERS = [
    (name, field.name)
    for name, factory in FACTORIES.items()
    for field in fields(factory.config)
    if "float" in str(field.type)
]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
@pytest.mark.parametrize(("name", "option"), NUMBERS)
def test_no_number_may_be_nonsense(name, option, value):
    default = getattr(FACTORIES[name].config(), option)
    given = (value, *default[1:]) if isinstance(default, tuple) else value
    with pytest.raises(ConfigError, match=rf"{option} must be .*got .*{value:g}"):
        FACTORIES[name].config(**{option: given})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("rince", {"bands_m": (5.0, 5.0, 6.0)}, "bands_m must increase, got 5,5,6"),
        ("rince", {"bands_m": ()}, "bands_m must name at least one"),
        ("rince", {"bands_m": (5.0,)}, "temperatures must have one value per band"),
        ("rince", {"temperatures": (0.2, 0.1, 0.3)}, "temperatures must not decrease"),
        ("recall-at-k", {"k": (0,)}, "k must be at least 1, got 0"),
        ("recall-at-k", {"k": ()}, "k must name at least one"),
        ("cosent", {"scale": 101.0}, "scale must be greater than 0 and at most 100, got 101"),
    ],
)
def test_combinations_that_cannot_work(name, options, message):
    with pytest.raises(ConfigError, match=message):
        FACTORIES[name].config(**options)


@pytest.mark.parametrize("name", [n for n, f in FACTORIES.items() if f.uses_influence])
def test_a_missing_influence_function_is_named(name):
    with pytest.raises(ConfigError, match=f"{name} needs an influence function"):
        FACTORIES[name].build(FACTORIES[name].config(), BuildContext())


@pytest.mark.parametrize("name", FACTORIES)
def test_rows_without_a_position_are_named(name):
    positions_m = torch.zeros(4, 2, dtype=torch.float64)
    positions_m[2, 1] = float("nan")
    with pytest.raises(DataError, match="not finite in 1 of 4 rows: 2"):
        build(name)(torch.eye(4), batch_at(positions_m))


def test_the_sampler_s_near_radius_is_the_default():
    for name in ("smooth-ap", "recall-at-k"):
        factory, context = FACTORIES[name], BuildContext(near_radius_m=7.0)
        assert factory.build(factory.config(), context).near_radius_m == 7.0
        assert factory.build(factory.config(near_radius_m=3.0), context).near_radius_m == 3.0
