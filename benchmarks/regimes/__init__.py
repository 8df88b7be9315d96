"""The losses compared in three regimes: from scratch, frozen backbone, last blocks tuned.

``python -m benchmarks.localization --regime NAME`` runs it.
"""
