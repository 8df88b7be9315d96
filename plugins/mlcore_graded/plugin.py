"""What the plugin ``graded`` provides."""

from __future__ import annotations

from mlcore import LossFactory, hookimpl
from mlcore_graded.losses import LOSSES

mlcore_hook_api = 1


@hookimpl
def mlcore_losses() -> list[LossFactory]:
    """Return the graded losses."""
    return list(LOSSES)
