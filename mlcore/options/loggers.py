"""The libraries that loggers need, checked before any work is done."""

from __future__ import annotations

from collections.abc import Collection

from mlcore.errors import require_library

LIBRARIES = {
    "tensorboard": ("tensorboard", "mlcore-localization[tensorboard]"),
    "wandb": ("wandb", "wandb"),
    "mlflow": ("mlflow", "mlflow"),
}
"""By logger: the name Python imports, and what pip installs it with."""


def require_loggers(names: Collection[str]) -> None:
    """Check that the libraries of some loggers are installed; imports none.

    Raises:
        MissingLibraryError: One is not.
    """
    for name in names:
        if name in LIBRARIES:
            require_library(f"--training.loggers {name}", *LIBRARIES[name])
