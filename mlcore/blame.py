"""Says whose fault it is when a component fails in a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlcore.errors import MlcoreError, PluginError

if TYPE_CHECKING:
    from mlcore.options import Chosen


@contextmanager
def blamed_on(chosen: Chosen[Any], doing: str) -> Iterator[None]:
    """Turn what a component raises into one error that names it.

    What it raises as an error of mlcore's, or of the operating system's, says enough by itself.

    Args:
        chosen: The component.
        doing: What it was asked for, as in "could not be built".

    Raises:
        PluginError: It raised something else; with its known limits.
    """
    try:
        yield
    except (MlcoreError, OSError):
        raise
    except Exception as error:
        raise PluginError(
            f"{chosen.factory.kind} {chosen.name!r} {doing}: {type(error).__name__}: {error}."
            f"{known_limits(chosen)} 'mlcore plugins {chosen.name}' tells whose it is, "
            "--traceback where it failed"
        ) from error


def known_limits(chosen: Chosen[Any]) -> str:
    """Return a sentence on the limits that a component declares; nothing if there are none."""
    limits = "; ".join(chosen.factory.limits.values())
    return f" Its known limits: {limits}." if limits else ""
