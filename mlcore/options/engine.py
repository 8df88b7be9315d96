"""The engine's own options: frozen dataclasses, no behaviour, no heavy import.

Each becomes a section of a run's TOML file and a prefix on the command line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """How tuples are drawn; every loss sees the same ones for the same options and seed.

    Attributes:
        tuples_per_batch: Tuples in one batch.
        near_per_tuple: Near images a tuple, beside its anchor.
        far_per_tuple: Far images a tuple.
        near_radius_m: Near images lie within this distance (metres) of the anchor;
            None takes what the data set recommends.
        far_radius_m: Far images lie beyond this distance (metres) of the anchor and of
            each other; None takes what the data set recommends.
        near_heading_limit_deg: Largest heading difference (degrees) of near images, where
            headings are known.
        location_spacing_m: One anchor is drawn at each location once an epoch; a location
            is a reference image every so many metres of its traversal.
        place_cell_m: Side (metres) of the grid cells that are the places of proxies and
            classifiers.
        hard_per_tuple: How many of a tuple's near images, and of its far ones, are the
            hardest by their embeddings; 0 draws all at random, the same for every loss.
        hard_features: Whose embeddings tell what is hard: the untrained network's, the same
            for every loss, or those of the network as it was a refresh ago.
        hard_pool: Random images among which hard far ones are sought.
        hard_refresh: Anchors for which embeddings are computed at once.
    """

    tuples_per_batch: int = 1
    near_per_tuple: int = 12
    far_per_tuple: int = 12
    near_radius_m: float | None = None
    far_radius_m: float | None = None
    near_heading_limit_deg: float = 30.0
    location_spacing_m: float = 1.0
    place_cell_m: float = 15.0
    hard_per_tuple: int = 0
    hard_features: Literal["initial", "live"] = "initial"
    hard_pool: int = 1000
    hard_refresh: int = 250

    def __post_init__(self) -> None:
        _at_least(self, 1, "tuples_per_batch", "near_per_tuple", "far_per_tuple")
        _at_least(self, 1, "hard_pool", "hard_refresh")
        _at_least(self, 0, "hard_per_tuple")
        if self.hard_per_tuple > min(self.near_per_tuple, self.far_per_tuple):
            raise ValueError(
                f"hard_per_tuple {self.hard_per_tuple} must not be larger than near_per_tuple "
                f"{self.near_per_tuple} and far_per_tuple {self.far_per_tuple}"
            )
        _positive(self, "location_spacing_m", "place_cell_m", "near_radius_m", "far_radius_m")
        if not 0 <= self.near_heading_limit_deg <= 180:
            raise ValueError(
                "near_heading_limit_deg must be from 0 to 180, got "
                f"{self.near_heading_limit_deg}"
            )


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How long, how fast and on what a model is trained.

    Attributes:
        max_steps: Optimizer steps of the run.
        learning_rate: Peak learning rate of Adam. The default suits a small network from
            scratch; weights that were trained before want 1e-5 or less.
        weight_decay: Decoupled weight decay; 0 is plain Adam.
        schedule: Learning rate over the run: constant, cosine to zero, or halved at the
            end of every epoch as in the paper.
        warmup_steps: Steps over which the learning rate rises linearly from 0.
        gradient_clip: Largest gradient norm; 0 leaves gradients alone.
        augment: Whether training images vary in brightness, contrast, scale and shift.
        checkpoint_every: Steps between two checkpoints.
        log_every: Steps between two rows of ``metrics.jsonl``.
        precision: Lightning's name of the arithmetic of the model; the loss is always
            computed in float32 or better.
        accelerator: Lightning's accelerator: auto, cpu or gpu.
        devices: Processes on each machine, one a device. torchrun and SLURM set it by what
            they start.
        num_nodes: Machines; each runs the same command.
        chunk_size: Images with activations in memory at once: a batch is embedded in chunks
            without them, and again chunk by chunk once the loss has its gradient. The same
            gradient, for a third more computation. 0 embeds the batch at once.
        batch_norm: Whether batch norms use the statistics of the batch (live) or those
            that come with the weights (frozen).
        compile: Whether the backbone is compiled by torch.compile; takes a minute.
        check_memory: Whether a run that takes more memory than there is, by an estimate, is
            refused before it starts.
        num_workers: Data-loading processes; changes no tuple and no number.
        skip_unreadable: Leave out images that cannot be read (a whole tuple if it is the
            anchor), counted and listed, instead of stopping.
    """

    max_steps: int = 3000
    learning_rate: float = 3e-3
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine", "halve-each-epoch"] = "cosine"
    warmup_steps: int = 0
    gradient_clip: float = 0.0
    augment: bool = True
    checkpoint_every: int = 200
    log_every: int = 10
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "64-true"] = "32-true"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int = 1
    num_nodes: int = 1
    chunk_size: int = 0
    batch_norm: Literal["live", "frozen"] = "live"
    compile: bool = False
    check_memory: bool = True
    num_workers: int = 0
    skip_unreadable: bool = False

    def __post_init__(self) -> None:
        _at_least(self, 1, "max_steps", "checkpoint_every", "log_every", "devices", "num_nodes")
        _at_least(self, 0, "weight_decay", "warmup_steps", "gradient_clip", "num_workers")
        _at_least(self, 0, "chunk_size")
        _positive(self, "learning_rate")


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """How embeddings are searched and judged (the paper's protocol by default).

    Attributes:
        whitening: Images that PCA whitening is fitted on: none (no whitening), train or
            references. auto: train if there are four images per dimension, else none.
        dimensions: Largest embedding dimension after whitening.
        whitening_images: Evenly spaced images that whitening is fitted on.
        spacing_m: Keep a reference only if it lies this many metres from the last kept
            one of its traversal; 0 keeps all.
        thresholds_m: Distances (metres) of the accuracy table.
        auc_limits_m: Limits (metres) of the area under the accuracy curve.
        recall_at: Numbers N of Recall@N.
        recall_radius_m: A reference within this distance (metres, inclusive) counts for
            Recall@N.
        order_limits_m: Distances (metres) within which references are compared by order
            accuracy.
        ndcg_at: Numbers k of NDCG@k.
        gain_cutoff_m: Distance (metres) at which the gain of NDCG, a sigmoid, is 1/2.
        gain_steepness_per_m: Steepness (1/metre) of that gain.
        batch_size: Images embedded at once.
        baselines: Whether the untrained network and the pixel baseline are evaluated too.
    """

    whitening: Literal["auto", "none", "train", "references"] = "auto"
    dimensions: int = 256
    whitening_images: int = 5000
    spacing_m: float = 0.0
    thresholds_m: tuple[float, ...] = (5.0, 10.0, 15.0)
    auc_limits_m: tuple[float, ...] = (10.0, 25.0, 50.0)
    recall_at: tuple[int, ...] = (1, 5, 10, 20)
    recall_radius_m: float = 25.0
    order_limits_m: tuple[float, ...] = (10.0, 15.0, 25.0)
    ndcg_at: tuple[int, ...] = (10,)
    gain_cutoff_m: float = 15.0
    gain_steepness_per_m: float = 0.8
    batch_size: int = 64
    baselines: bool = True

    def __post_init__(self) -> None:
        _at_least(self, 1, "dimensions", "whitening_images", "batch_size")
        _at_least(self, 0, "spacing_m")
        _positive(self, "gain_cutoff_m", "gain_steepness_per_m")


def _at_least(options: Any, least: int, *names: str) -> None:
    """Raise ValueError if one of the options is smaller than ``least``."""
    for name in names:
        if not getattr(options, name) >= least:
            raise ValueError(f"{name} must be at least {least}, got {getattr(options, name)}")


def _positive(options: Any, *names: str) -> None:
    """Raise ValueError unless each of the options is a positive finite number, or None."""
    for name in names:
        value = getattr(options, name)
        if value is not None and not 0 < value < float("inf"):
            raise ValueError(f"{name} must be positive and finite, got {value}")
