"""Trains a model with a loss: Lightning's loop, and our extensions.

One optimizer step reads, from top to bottom, in :meth:`mlcore.training.task.EmbeddingTask.
training_step` and ``backward``.
"""

from mlcore.training.fit import fit
from mlcore.training.loggers import logger_notes

__all__ = ["fit", "logger_notes"]
