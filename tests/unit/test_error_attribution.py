"""An error in a component is attributed to it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from mlcore.errors import DataError, PluginError
from mlcore.factories import LossFactory
from mlcore.options import Chosen
from mlcore.options.config import attribute_errors, known_limits


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """No options."""


def chosen(**limits: str) -> Chosen[LossFactory]:
    factory = LossFactory(
        name="odd",
        summary="a loss",
        config=NoOptions,
        build=print,
        limits={name.replace("_", "-"): text for name, text in limits.items()},
    )
    return Chosen(name="theirs:odd", factory=factory, options=NoOptions())


def test_the_component_its_limits_and_the_way_on():
    with (
        pytest.raises(PluginError) as caught,
        attribute_errors(chosen(one_row="raises for one image"), "failed at step 3"),
    ):
        raise ZeroDivisionError("division by zero")
    assert str(caught.value) == (
        "loss 'theirs:odd' failed at step 3: ZeroDivisionError: division by zero. "
        "Its known limits: raises for one image. "
        "Run 'mlcore plugins theirs:odd' to see which plugin provides it; add --traceback "
        "for details"
    )
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("error", [DataError("no image"), FileNotFoundError("a.png")])
def test_errors_that_say_enough_pass_unchanged(error):
    with pytest.raises(type(error)) as caught, attribute_errors(chosen(), "could not be built"):
        raise error
    assert caught.value is error


def test_no_limits_no_sentence():
    assert known_limits(chosen()) == ""
