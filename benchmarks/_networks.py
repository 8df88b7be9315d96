"""A network by its name, built as a run builds it."""

from __future__ import annotations

from functools import cache
from typing import Any

from mlcore.models import EmbeddingModel
from mlcore.networks import build_model
from mlcore.option_types import plain_text
from mlcore.options import parse_run
from mlcore.registry.discovery import Registry


def network(name: str, *, seed: int = 0, **options: Any) -> EmbeddingModel:
    """Return a model with random weights; ``options`` are those of ``--model``."""
    registry = _registry()
    random = ["--model.weights", "none"] if name != "pixels" else []
    words = [f"--model.{key}={plain_text(value)}" for key, value in options.items()]
    return build_model(
        parse_run(["--model", name, *random, *words, "--seed", str(seed)], registry)
    )


@cache
def _registry() -> Registry:
    return Registry.discover()
