"""One run of the comparison: train above the cache, evaluate, and keep the result.

A run is what ``mlcore train`` makes of the same options: the same tuples, initial weights,
optimizer and schedule, without reading images again. A test holds the two to each other.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks import _common as common
from benchmarks.regimes.rows import Regime
from benchmarks.regimes.towns import TopOfNetwork, Town
from mlcore.data.images import augment
from mlcore.errors import NonFiniteLossError
from mlcore.evaluation.documents import from_document, to_document
from mlcore.evaluation.evaluate import evaluate_split
from mlcore.evaluation.results import Evaluation
from mlcore.experiment import Experiment, assemble
from mlcore.files import write_lines
from mlcore.models.networks import Network
from mlcore.options import RunConfig, parse_run
from mlcore.options.engine import EvaluationOptions
from mlcore.protocols import Batch
from mlcore.registry.discovery import Registry
from mlcore.retrieval.references import training_images
from mlcore.retrieval.whitening import fit_whitening
from mlcore.sampling.planner import BatchPlan, Planner
from mlcore.seeding import derive_seed
from mlcore.training.gradient_cache import freeze_batch_norms
from mlcore.training.joint import joint_loss
from mlcore.training.mining import mined
from mlcore.training.optimizers import build_optimizer
from mlcore.training.schedule import learning_rate_factor

WHITENED, PLAIN = "whitened", "plain"
_IMAGES_AT_ONCE = 256

AdaptLoss = Callable[[nn.Module], nn.Module]
"""Returns the loss to train with instead of that of the options."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run.

    Attributes:
        row: Name of the row it belongs to.
        path: Of its result.
        options: Of ``mlcore train``, without town and seed.
        town: Seed of the town.
        seed: Of training.
        splits: That are evaluated.
        noise_m: Standard deviation of the noise on training positions.
        adapt: Replaces the loss of the options.
    """

    row: str
    path: Path
    options: tuple[str, ...]
    town: int
    seed: int
    splits: tuple[str, ...] = ("validation", "test")
    noise_m: float = 0.0
    adapt: AdaptLoss | None = None

    def config(self, registry: Registry) -> RunConfig:
        """Return its configuration."""
        words = [*self.options, "--seed", str(self.seed)]
        return parse_run([*words, "--dataset.town_seed", str(self.town)], registry)


class Result(NamedTuple):
    """What is kept of a run.

    Attributes:
        evaluations: By split and "whitened" or "plain"; empty if it diverged.
        failure: Why it diverged, or "".
        seconds: CPU time, without the cache.
    """

    evaluations: dict[tuple[str, str], Evaluation]
    failure: str
    seconds: float


def run(job: Job, regime: Regime, town: Town, registry: Registry) -> Result:
    """Train and evaluate one run, without keeping anything."""
    began = time.process_time()
    config = job.config(registry)
    experiment = assemble(config, dataset=town.dataset, data_notes=())
    assert isinstance(experiment.model, Network)
    if job.adapt is not None:
        experiment = replace(experiment, loss=job.adapt(experiment.loss))
    network = TopOfNetwork(experiment.model, regime.blocks)
    evaluations: dict[tuple[str, str], Evaluation] = {}
    failure = ""
    try:
        train(experiment, network, town)
    except NonFiniteLossError as error:
        failure = str(error)
    else:
        evaluations = evaluate(network, town, config.evaluation, job.splits)
    return Result(evaluations, failure, time.process_time() - began)


def train(experiment: Experiment, network: TopOfNetwork, town: Town) -> None:
    """Train a network above the cache, step by step as the engine does.

    Raises:
        NonFiniteLossError: The loss is not finite.
    """
    config, options = experiment.config, experiment.config.training
    seed = derive_seed(config.seed, "training")
    optimizer = build_optimizer(network.model, experiment.loss, options)
    factor = learning_rate_factor(options, experiment.planner.steps_per_epoch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    network.train()
    if options.batch_norm == "frozen":
        freeze_batch_norms(network)
    for step in range(options.max_steps):
        plan = experiment.planner.plan(step)
        images = town.of(experiment.planner.images.index[plan.rows])
        if options.augment:
            images = augment(images, derive_seed(config.seed, "augmentation"), step)
        batch = _described(plan, experiment.planner)
        torch.manual_seed(derive_seed(seed, "images", step, 0))
        embeddings = network(images)
        torch.manual_seed(derive_seed(seed, "loss", step))
        tuples = mined(experiment, embeddings.detach(), batch, step)
        loss = joint_loss(experiment.loss, embeddings, batch, tuples).mine
        if not torch.isfinite(loss):
            raise NonFiniteLossError(f"the loss is {float(loss.detach())} at step {step}")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    network.eval()


def _described(plan: BatchPlan, planner: Planner) -> Batch:
    """Return the batch of a plan, of a data set with one region and no extras."""
    columns, rows = planner.images, plan.rows
    headings = columns.headings_rad
    return Batch(
        positions_m=torch.from_numpy(columns.positions_m[rows]),
        headings_rad=None if headings is None else torch.from_numpy(headings[rows]),
        tuple_id=torch.from_numpy(plan.tuple_id),
        role=torch.from_numpy(plan.role),
        place_id=torch.from_numpy(planner.place_id[rows]),
        index=torch.from_numpy(columns.index[rows]),
    )


def evaluate(
    network: Callable[[Tensor], Tensor],
    town: Town,
    options: EvaluationOptions,
    splits: tuple[str, ...],
) -> dict[tuple[str, str], Evaluation]:
    """Evaluate by the product's protocol, with whitening and without."""
    index = training_images(town.dataset, options.whitening_images)
    whitening = fit_whitening(embed(network, town, index), options.dimensions, source="train")
    found = {}
    for name in splits:
        split = getattr(town.dataset, name)
        references, queries = (
            embed(network, town, table.index) for table in (split.references, split.queries)
        )
        facts: dict[str, Any] = {
            "split_name": name,
            "data_fingerprint": town.dataset.fingerprint,
        }
        found[name, PLAIN] = evaluate_split(
            references, queries, split, options, name=PLAIN, **facts
        )
        found[name, WHITENED] = evaluate_split(
            whitening(references),
            whitening(queries),
            split,
            options,
            name=WHITENED,
            whitening="train",
            whitening_images=len(index),
            **facts,
        )
    return found


@torch.inference_mode()
def embed(
    network: Callable[[Tensor], Tensor], town: Town, index: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the embeddings ``(N, D)`` of images, by index."""
    parts = range(0, len(index), _IMAGES_AT_ONCE)
    found = [network(town.of(index[start : start + _IMAGES_AT_ONCE])) for start in parts]
    return torch.cat(found).float().numpy()


def keep(job: Job, result: Result) -> None:
    """Write the result of a run."""
    job.path.parent.mkdir(parents=True, exist_ok=True)
    evaluations = list(result.evaluations.values())
    document = {
        "options": job.options,
        "town": job.town,
        "seed": job.seed,
        "noise_m": job.noise_m,
        "commit": _commit(),
        "seconds": result.seconds,
        "failure": result.failure,
        "result": to_document(evaluations) if evaluations else None,
    }
    write_lines(job.path, [json.dumps(document, separators=(",", ":"))])


@cache
def _commit() -> str:
    return common.describe_commit()  # of the code that is running, not of later edits


def kept(job: Job) -> Result | None:
    """Return the result of a run that was kept, None if there is none.

    Raises:
        ValueError: It is the result of other options.
    """
    if not job.path.exists():
        return None
    document = json.loads(job.path.read_text(encoding="utf-8"))
    if tuple(document["options"]) != job.options:
        raise ValueError(
            f"{job.path} has the options {' '.join(document['options'])}, not "
            f"{' '.join(job.options)}; remove it or use another --runs"
        )
    found = from_document(document["result"]) if document["result"] else []
    evaluations = {(one.protocol.split, one.model): one for one in found}
    return Result(evaluations, document["failure"], document["seconds"])


def budget(jobs: Sequence[Job], regime: Regime) -> str:
    """Return in words what kept runs took, and the code that did them."""
    documents = [json.loads(job.path.read_text(encoding="utf-8")) for job in jobs]
    seconds = [document["seconds"] for document in documents]
    commits = sorted({document["commit"] for document in documents})
    return (
        f"Budget: {len(jobs)} runs, {sum(seconds) / 60:.0f} minutes of one core in all, "
        f"{statistics.median(seconds):.1f} s per run (median), {max(seconds):.1f} s the "
        f"longest, where {regime.limit_s:g} s are allowed; done by commit {', '.join(commits)}."
    )


def differences(result: Result, other: Result) -> list[str]:
    """Return what differs between two results of one run, but for their time."""
    found = ["failure"] if result.failure != other.failure else []
    for key in sorted({*result.evaluations, *other.evaluations}):
        one, another = (each.evaluations.get(key) for each in (result, other))
        if one is None or another is None:
            found.append(" ".join(key))
            continue
        own, others = to_document([one]), to_document([another])
        if json.dumps(own) != json.dumps(others):
            found.append(" ".join(key))
    return found
