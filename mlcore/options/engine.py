"""The engine's own options: frozen dataclasses without behaviour or heavy imports.

Each becomes a section of a run's TOML file and a prefix on the command line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from mlcore.option_types import AT_LEAST_ONE, NOT_NEGATIVE, POSITIVE, Range, check_ranges

LoggerName = Literal["csv", "mlflow", "tensorboard", "wandb"]
Augmentation = Literal["color-jitter", "resized-crop", "perspective", "rand-augment"]


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """How tuples are drawn; with the same options and seed every loss sees the same ones.

    Attributes:
        tuples_per_batch: Tuples per batch.
        scheme: What a batch holds: tuples (an anchor, near and far images each), places
            (some images of each of several places that are far from each other) or cliques
            (places that lie close together or look alike, each a set of images that are near
            each other).
        near_per_tuple: Near images per tuple, besides its anchor.
        far_per_tuple: Far images per tuple; 0: none, for losses that compare all images of a
            batch.
        places_per_batch: Places per batch, for the schemes places and cliques.
        images_per_place: Images of each place, for the schemes places and cliques.
        clique_centers: For the scheme cliques, images around which cliques are looked for: one
            at a random location, and those of a pool that look most like it.
        clique_radius_m: For the scheme cliques, distance (metres) from such an image within
            which its cliques lie.
        near_radius_m: Near images lie within this distance (metres) of the anchor; none:
            what the data set recommends.
        far_radius_m: Far images lie beyond this distance (metres) of the anchor and of
            each other; none: what the data set recommends.
        near_heading_limit_deg: Largest heading difference (degrees) between a near image and
            the anchor, where headings are known.
        location_spacing_m: Spacing (metres) of locations along a traversal; an epoch draws
            one anchor at each location.
        balance: Where anchors come from: locations (every location once per epoch, so that a
            larger data set or city has more), or datasets or regions in turn, each with as
            many anchors as any other.
        place_cell_m: Side (metres) of the grid cells that serve as classes for proxy and
            classification losses.
        hard_per_tuple: Near images, and far images, per tuple that are chosen because their
            embeddings make them hardest; 0: all images are drawn at random, the same ones
            for every loss.
        hard_features: Network whose embeddings decide what is hard, or looks alike for the
            scheme cliques: initial (the untrained one, so that every loss gets the same
            batches) or live (the current one, as of the last refresh, so that each loss gets
            batches of its own).
        hard_pool: Random images to search for hard far images, or for those that look alike.
        hard_refresh: Anchors between two updates of these embeddings; each place of a batch has
            one anchor.
    """

    tuples_per_batch: Annotated[int, AT_LEAST_ONE] = 1
    scheme: Literal["tuples", "places", "cliques"] = "tuples"
    near_per_tuple: Annotated[int, AT_LEAST_ONE] = 12
    far_per_tuple: Annotated[int, NOT_NEGATIVE] = 12
    places_per_batch: Annotated[int, Range(at_least=2)] = 60
    images_per_place: Annotated[int, Range(at_least=2)] = 4
    clique_centers: Annotated[int, AT_LEAST_ONE] = 16
    clique_radius_m: Annotated[float, POSITIVE] = 50.0
    near_radius_m: Annotated[float | None, POSITIVE] = None
    far_radius_m: Annotated[float | None, POSITIVE] = None
    near_heading_limit_deg: Annotated[float, Range(at_least=0, at_most=180)] = 30.0
    location_spacing_m: Annotated[float, Range(at_least=0.001)] = 1.0
    balance: Literal["locations", "datasets", "regions"] = "locations"
    place_cell_m: Annotated[float, Range(at_least=0.001)] = 15.0
    hard_per_tuple: Annotated[int, NOT_NEGATIVE] = 0
    hard_features: Literal["initial", "live"] = "initial"
    hard_pool: Annotated[int, AT_LEAST_ONE] = 1000
    hard_refresh: Annotated[int, AT_LEAST_ONE] = 250

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.hard_per_tuple and self.scheme != "tuples":
            raise ValueError(
                f"hard_per_tuple must be 0 with scheme {self.scheme}, got {self.hard_per_tuple}"
            )
        if self.hard_per_tuple > min(self.near_per_tuple, self.far_per_tuple):
            raise ValueError(
                f"hard_per_tuple {self.hard_per_tuple} must not be larger than near_per_tuple "
                f"{self.near_per_tuple} and far_per_tuple {self.far_per_tuple}"
            )
        if self.scheme == "tuples" and not self.far_per_tuple and self.tuples_per_batch == 1:
            raise ValueError(
                "far_per_tuple 0 needs tuples_per_batch of at least 2, got 1: all images of a "
                "batch would be near each other"
            )

    @property
    def batch_tuples(self) -> int:
        """Tuples, or places, per batch."""
        return self.tuples_per_batch if self.scheme == "tuples" else self.places_per_batch

    @property
    def uses_embeddings(self) -> bool:
        """Whether embeddings decide what batches hold, so that they are planned ahead."""
        return self.hard_per_tuple > 0 or self.scheme == "cliques"


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How long, how fast and on what hardware a model is trained.

    Attributes:
        images: Images to train on: train (the training split) or references (of the test
            split, and no query: adapts a network to the map that is searched).
        max_steps: Optimizer steps of the run.
        optimizer: AdamW, or SGD with a momentum of 0.9.
        learning_rate: Peak learning rate. The default suits a small network trained from
            scratch; weights to start from bring a recommended one, which then is the default.
        backbone_rate: Factor on the learning rate of the backbone.
        layer_decay: Factor on the learning rate from each block of the backbone to the one
            before it; 1: the same for all.
        weight_decay: Weight decay, decoupled with AdamW; 0: none.
        schedule: Learning rate over the run: constant, cosine (decays to zero) or
            halve-each-epoch (as in the paper).
        warmup_steps: Steps over which the learning rate rises linearly from 0.
        gradient_clip: Largest gradient norm; 0: gradients are not clipped.
        validate_every: Steps between two evaluations on the validation split, without
            whitening; also after the last step. 0: none.
        checkpoint: Weights that the run ends with: last, or best (the largest area under the
            accuracy curve on validation, as tables show it).
        patience: Validations in a row without a better one after which training stops; 0: it
            does not.
        ema_decay: Decay per step of a moving average of the weights, which is then validated
            and kept instead of them; 0: none.
        augment: Whether to vary brightness, contrast, scale and position of training images.
        augmentations: More variation, by torchvision, in this order: color-jitter (brightness,
            contrast and saturation by up to 40 %, hue by up to 10 %), resized-crop (60 to 100 %
            of the area), perspective (every second image), rand-augment (two operations of
            magnitude 9). None mirrors.
        accumulate: Batches per optimizer step, whose mean gradient it follows; a loss compares
            images within a batch only, see chunk_size and memory for more of them.
        memory: Images of past batches, the newest ones, whose embeddings the current ones are
            compared with as well (cross-batch memory); 0: none.
        memory_start: Steps after which images begin to be remembered: embeddings change fast
            in the first ones.
        checkpoint_every: Steps between two checkpoints.
        log_every: Steps between two rows of metrics.jsonl.
        loggers: Further logs of the numbers in metrics.jsonl, through Lightning: csv, mlflow,
            tensorboard or wandb. TensorBoard files are written anyway where it is installed.
        precision: Precision of the model, by Lightning's name; the loss is always computed
            in float32 or better.
        accelerator: Hardware to train on.
        devices: Processes per machine, one per device. torchrun and SLURM set it themselves.
        num_nodes: Machines. Start the same command on each with torchrun or srun, or with the
            environment variables MASTER_ADDR, MASTER_PORT and NODE_RANK (0, 1, ...) set.
        chunk_size: Images whose activations are in memory at once (gradient caching): the
            same gradient in less memory, for a third more computation. 0: the whole batch.
        batch_norm: Statistics that batch norm uses: live (of the batch) or frozen (those
            that come with the weights; the default where a run starts from some).
        compile: Whether to compile the backbone with torch.compile; compiling takes about a
            minute.
        check_memory: Whether to refuse a run that is estimated to need more memory than
            there is.
        num_workers: Data-loading processes; the results do not depend on it.
        skip_unreadable: Leave out images that cannot be read (a whole tuple if it is the
            anchor), and count and list them, instead of stopping.
        evaluate: Whether to evaluate the trained network on the test images; false: there
            need not be any.
    """

    images: Literal["train", "references"] = "train"
    max_steps: Annotated[int, Range(at_least=1, at_most=1_000_000_000)] = 3000
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Annotated[float, POSITIVE] = 3e-3
    backbone_rate: Annotated[float, POSITIVE] = 1.0
    layer_decay: Annotated[float, Range(above=0, at_most=1)] = 1.0
    weight_decay: Annotated[float, NOT_NEGATIVE] = 0.0
    schedule: Literal["constant", "cosine", "halve-each-epoch"] = "cosine"
    warmup_steps: Annotated[int, NOT_NEGATIVE] = 0
    gradient_clip: Annotated[float, NOT_NEGATIVE] = 0.0
    validate_every: Annotated[int, NOT_NEGATIVE] = 0
    checkpoint: Literal["last", "best"] = "last"
    patience: Annotated[int, NOT_NEGATIVE] = 0
    ema_decay: Annotated[float, Range(at_least=0, below=1)] = 0.0
    augment: bool = True
    augmentations: tuple[Augmentation, ...] = ()
    accumulate: Annotated[int, AT_LEAST_ONE] = 1
    memory: Annotated[int, NOT_NEGATIVE] = 0
    memory_start: Annotated[int, NOT_NEGATIVE] = 0
    checkpoint_every: Annotated[int, AT_LEAST_ONE] = 200
    log_every: Annotated[int, AT_LEAST_ONE] = 10
    loggers: tuple[LoggerName, ...] = ()
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "64-true"] = "32-true"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: Annotated[int, Range(at_least=1, at_most=256)] = 1
    num_nodes: Annotated[int, Range(at_least=1, at_most=100_000)] = 1
    chunk_size: Annotated[int, NOT_NEGATIVE] = 0
    batch_norm: Literal["live", "frozen"] = "live"
    compile: bool = False
    check_memory: bool = True
    num_workers: Annotated[int, Range(at_least=0, at_most=256)] = 0
    skip_unreadable: bool = False
    evaluate: bool = True

    def __post_init__(self) -> None:
        check_ranges(self)
        if not self.validate_every and self.checkpoint == "best":
            raise ValueError(
                "checkpoint best needs validate_every, the steps between validations"
            )
        if not self.validate_every and self.patience:
            raise ValueError(
                f"patience {self.patience} needs validate_every, the steps between validations"
            )


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """How embeddings are searched and evaluated (by default as in the paper).

    Attributes:
        whitening: Images that PCA whitening is fitted on: none (no whitening), train or
            references. auto: train if there are four images per dimension, else none.
        dimensions: Largest embedding dimension after whitening.
        whitening_images: Evenly spaced images that whitening is fitted on.
        spacing_m: Least distance (metres) between two references of a traversal; references
            nearer than that to the last one kept are left out. 0: all are kept.
        thresholds_m: Distances (metres) of the accuracy table.
        auc_limits_m: Distances (metres) up to which the area under the accuracy curve is
            computed.
        recall_at: Values of N for Recall@N.
        recall_radius_m: A reference within this distance (metres, inclusive) counts for
            Recall@N.
        order_limits_m: Distances (metres) within which references are compared by order
            accuracy.
        ndcg_at: Values of k for NDCG@k.
        gain_cutoff_m: Distance (metres) at which the gain of NDCG, a sigmoid, is 1/2.
        gain_steepness_per_m: Steepness (1/metre) of that gain.
        batch_size: Images embedded at once.
        baselines: Whether to evaluate the untrained network and the pixel baseline too.
    """

    whitening: Literal["auto", "none", "train", "references"] = "auto"
    dimensions: Annotated[int, AT_LEAST_ONE] = 256
    whitening_images: Annotated[int, Range(at_least=2)] = 5000
    spacing_m: Annotated[float, NOT_NEGATIVE] = 0.0
    thresholds_m: Annotated[tuple[float, ...], POSITIVE] = (5.0, 10.0, 15.0)
    auc_limits_m: Annotated[tuple[float, ...], POSITIVE] = (10.0, 25.0, 50.0)
    recall_at: Annotated[tuple[int, ...], AT_LEAST_ONE] = (1, 5, 10, 20)
    recall_radius_m: Annotated[float, NOT_NEGATIVE] = 25.0
    order_limits_m: Annotated[tuple[float, ...], POSITIVE] = (10.0, 15.0, 25.0)
    ndcg_at: Annotated[tuple[int, ...], AT_LEAST_ONE] = (10,)
    gain_cutoff_m: Annotated[float, POSITIVE] = 15.0
    gain_steepness_per_m: Annotated[float, POSITIVE] = 0.8
    batch_size: Annotated[int, AT_LEAST_ONE] = 64
    baselines: bool = True

    def __post_init__(self) -> None:
        check_ranges(self)
