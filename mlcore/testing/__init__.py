"""The conformance kit: what each kind of component must be able to.

In a plugin's own tests, the whole kit is::

    import pytest
    from mlcore.testing import checks

    @pytest.mark.parametrize("check", checks("my-plugin"), ids=str)
    def test_conformance(check):
        check()

``mlcore plugins --check my-plugin`` runs the same. docs/hooks.md tells the checks by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlcore.factories import LossFactory
from mlcore.testing.check import Check, CheckFailure, CheckSkipped
from mlcore.testing.subject import PluginLike, Source
from mlcore.testing.suite import checks
from mlcore.testing.vocabulary import RULES, Rule

if TYPE_CHECKING:
    from mlcore.testing.cases import LossCase

__all__ = [
    "RULES",
    "Check",
    "CheckFailure",
    "CheckSkipped",
    "Rule",
    "checks",
    "loss_case",
]


def loss_case(
    plugin: PluginLike, name: str, condition: str = "standard", variant: str = ""
) -> LossCase:
    """Return a loss and the inputs that a check calls it with.

    Args:
        plugin: As for :func:`checks`.
        name: Name of the loss.
        condition: "standard", or a condition such as "no-positive".
        variant: Which variant, for a condition that has several.

    Raises:
        KeyError: There is no such loss, condition or variant.
    """
    from mlcore.testing.cases import loss_case_of, rows_of

    factories = Source.of(plugin).load()
    losses = {f.name: f for f in factories if isinstance(f, LossFactory)}
    return loss_case_of(losses[name], rows_of(condition, variant))
