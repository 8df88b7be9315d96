"""The engine's own embedding models, as factories: no torch is imported here."""

from __future__ import annotations

from mlcore.factories import ModelFactory

MODELS: tuple[ModelFactory, ...] = ()
