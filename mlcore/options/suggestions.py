"""Suggestions for an option that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from mlcore.errors import UnknownNameError

_WORDS_OF_OTHERS = {
    "training.learning_rate": "lr learning_rate base_lr",
    "training.max_steps": "epochs num_epochs max_epochs epochs_num steps num_steps iterations "
    "max_iters num_iterations",
    "training.weight_decay": "wd",
    "training.optimizer": "optim",
    "training.schedule": "scheduler lr_scheduler lr_schedule",
    "training.warmup_steps": "warmup",
    "training.gradient_clip": "grad_clip clip_grad clip_grad_norm max_grad_norm",
    "training.devices": "gpu gpus device num_gpus ddp distributed strategy nproc_per_node",
    "training.num_workers": "workers j",
    "training.precision": "fp16 bf16 amp half mixed_precision",
    "training.loggers": "logger wandb tensorboard mlflow",
    "training.checkpoint_every": "save_every save_steps",
    "sampling.tuples_per_batch": "batch_size bs train_batch_size",
    "sampling.far_per_tuple": "negatives num_negatives negs_num_per_query",
    "sampling.near_per_tuple": "positives num_positives",
    "evaluation.batch_size": "eval_batch_size test_batch_size infer_batch_size",
    "evaluation.recall_at": "recall_values",
    "evaluation.recall_radius_m": "val_positive_dist_threshold positive_dist_threshold",
    "evaluation.dimensions": "pca pca_dim whiten_dim",
    "influence.cutoff_m": "cutoff",
    "model": "arch architecture network net",
    "backbone": "encoder",
    "pooling": "aggregation aggregator pool",
    "model.weights": "pretrained",
    "model.trainable_blocks": "freeze freeze_backbone",
    "model.input_width_px": "image_size img_size input_size resize width_px",
    "model.embedding_dim": "dim fc_output_dim features_dim output_dim",
    "loss.margin": "margin",
    "loss.temperature": "temperature",
    "dataset": "data",
    "dataset.root": "data_root data_dir data_path dataset_root dataset_dir datasets_folder "
    "root path",
    "out": "output output_dir save_dir logdir log_dir run_name exp_name",
    "resume": "resume_from resume_from_checkpoint ckpt ckpt_path",
}
"""Our options, each with the names that other tools use for it."""

_OURS = {word: ours for ours, words in _WORDS_OF_OTHERS.items() for word in words.split()}


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
    same_name = [name for k, name in by_key.items() if k.rpartition(".")[2] == option]
    own = {k.rpartition(".")[2]: k for k in by_key if section and k.startswith(f"{section}.")}
    ours = _OURS.get(option, "")
    # Another component of the section may have it, which the next message says.
    exists = ours in by_key or ours.partition(".")[0] in by_key
    if ours and exists:
        elsewhere = [] if section or option == "batch_size" else same_name
        return [by_key.get(ours, f"--{ours}"), *elsewhere][:3]
    if own:
        found = difflib.get_close_matches(option, own, n=1, cutoff=0.6)
        return [by_key[own[name]] for name in found] or same_name[:1]
    if same_name:
        return same_name[:3]
    found = difflib.get_close_matches(key, list(by_key), n=1, cutoff=0.75)
    if not found and not section:
        last = {k.rpartition(".")[2]: k for k in by_key}
        found = [last[k] for k in difflib.get_close_matches(key, last, n=1, cutoff=0.75)]
    return [by_key[k] for k in found]


def _key(flag: str) -> str:
    return flag.lstrip("-").replace("-", "_").lower()
