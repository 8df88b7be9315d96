"""Suggestions for an option that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from mlcore.errors import UnknownNameError

_OTHER_WORDS = {
    "lr": "training.learning_rate",
    "epochs": "training.max_steps",
    "num_epochs": "training.max_steps",
    "max_epochs": "training.max_steps",
    "steps": "training.max_steps",
    "iterations": "training.max_steps",
    "batch_size": "sampling.tuples_per_batch",
    "wd": "training.weight_decay",
    "optim": "training.optimizer",
    "gpu": "training.devices",
    "gpus": "training.devices",
    "pretrained": "model.weights",
    "workers": "training.num_workers",
    "fp16": "training.precision",
    "amp": "training.precision",
    "warmup": "training.warmup_steps",
    "scheduler": "training.schedule",
    "lr_scheduler": "training.schedule",
    "cutoff": "influence.cutoff_m",
    "image_size": "model.input_width_px",
    "data": "dataset",
    "data_root": "dataset.root",
    "output": "out",
    "output_dir": "out",
}
"""Names that other tools use for our options."""


def unknown_option(flag: str, known: Collection[str], command: str = "") -> UnknownNameError:
    """Return the error for a flag that does not exist.

    Args:
        flag: As given, with its dashes.
        known: Every flag that exists, with its dashes.
        command: Command whose ``--help`` lists them.
    """
    nearest = nearest_flags(flag, known)
    hint = "" if nearest or not command else f"(see '{command} --help')"
    return UnknownNameError("option", flag, known, hint, nearest=nearest)


def nearest_flags(flag: str, known: Collection[str]) -> list[str]:
    """Return the flags that the user may have meant by ``flag``, best first; at most three.

    An option without its section or in a wrong one (``--beta``, ``--training.beta``), in
    another tool's word (``--lr``), or misspelt.
    Flags that only share a few letters are not suggested.
    """
    by_key = {_key(name): name for name in sorted(known)}
    key = _key(flag)
    section, _, option = key.rpartition(".")
    word = _OTHER_WORDS.get(option, "")
    same_name = [name for k, name in by_key.items() if k.rpartition(".")[2] == option]
    if section and any(k.startswith(f"{section}.") for k in by_key):
        own = {k.rpartition(".")[2]: k for k in by_key if k.startswith(f"{section}.")}
        found = difflib.get_close_matches(option, own, n=1, cutoff=0.6)
        return [by_key[own[name]] for name in found] or same_name[:1]
    if word in by_key:
        return [by_key[word]]
    if same_name:
        return same_name[:3]
    found = difflib.get_close_matches(key, list(by_key), n=1, cutoff=0.75)
    if not found and not section:
        last = {k.rpartition(".")[2]: k for k in by_key}
        found = [last[k] for k in difflib.get_close_matches(key, last, n=1, cutoff=0.75)]
    return [by_key[k] for k in found]


def _key(flag: str) -> str:
    return flag.lstrip("-").replace("-", "_").lower()
