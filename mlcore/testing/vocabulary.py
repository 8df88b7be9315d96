"""The names of all checks, what each asks for, and which may be declared as limits."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Rule:
    """One check by name.

    Attributes:
        name: Kebab-case; for a declarable rule also the key in a factory's ``limits``.
        meaning: What must hold, as the end of "it must hold that ...".
        declarable: Whether a factory may declare in ``limits`` that it does not hold.
        gate: Whether all checks after it are skipped if it fails, for they would fail alike.
        after: Name of a check whose failure explains one of this, which is skipped then.
    """

    name: str
    meaning: str
    declarable: bool = False
    gate: bool = False
    after: str = ""


PLUGIN = (
    Rule("loads", "the plugin loads and its hooks return valid factories"),
    Rule("imports-no-torch", "listing it does not import torch"),
    Rule("prints-nothing", "listing it prints nothing"),
    Rule("leaves-process-alone", "listing it changes no signal handler, hook or environment"),
)

FACTORY = (
    Rule("described", "summary and options are described, a summary in one line"),
    Rule("config-round-trip", "the options survive a TOML file unchanged"),
    Rule("limits-known", "the keys of limits are names of declarable checks"),
)

TRACE = Rule("leaves-no-trace", "a call leaves no output, thread, graph or setting behind")
REGISTERED = Rule(
    "registered", "tensors that it holds are parameters or buffers", declarable=True
)

CONDITIONS = (
    Rule("one-row", "it copes with a batch of one image", declarable=True),
    Rule("no-positive", "it copes with a batch without a near pair", declarable=True),
    Rule("no-negative", "it copes with a batch without a far pair", declarable=True),
    Rule("neither", "it copes with pairs that are neither near nor far", declarable=True),
    Rule("duplicate-embeddings", "it copes with equal embeddings", declarable=True),
    Rule("zero-embeddings", "it copes with embeddings of zeros", declarable=True),
    Rule("opposite-embeddings", "it copes with embeddings x and -x", declarable=True),
    Rule("coincident-positions", "it copes with images of one position", declarable=True),
    Rule("no-headings", "it copes with a batch without headings", declarable=True),
    Rule("altitudes", "it copes with positions of three coordinates", declarable=True),
    Rule("short-tuples", "it copes with tuples of different sizes", declarable=True),
)

LOSS = (
    *FACTORY,
    Rule("scalar", "it returns a LossOutput: a finite scalar and plain stats", gate=True),
    Rule("gradient", "a gradient reaches embeddings and the loss's parameters", gate=True),
    Rule("repeatable", "the same input gives the same value", declarable=True, gate=True),
    Rule("learns", "steps down its gradient bring near images together", declarable=True),
    Rule("gradcheck", "the float64 gradient is that of finite differences", declarable=True),
    Rule("permutation", "the order of the images changes nothing", declarable=True),
    Rule("translation", "moving all positions changes nothing", declarable=True),
    Rule(
        "near-thresholds",
        "pairs at a threshold, or 1 mm from it, are decided in float64",
        declarable=True,
        after="translation",
    ),
    Rule("regions", "moving one region changes nothing: others are infinitely far away"),
    Rule("declares-needs", "it reads nothing that needs and uses_influence leave out"),
    Rule("needs-used", "it reads what needs and uses_influence declare"),
    Rule("autocast", "it is finite and a float under autocast", declarable=True),
    Rule("inputs-unmodified", "embeddings, batch and tuples are left as they were"),
    Rule("reproducible", "the context's seed decides every number"),
    Rule("rows-add-up", "the shares of forward_rows add up to the whole"),
    Rule("shared-adds-up", "so do the gradients of forward_shared, and its loss is the whole"),
    Rule("memory", "memory grows with the batch as declared"),
    REGISTERED,
    TRACE,
    *CONDITIONS,
)

MINER = (
    *FACTORY,
    Rule("form", "it returns what produces says: int64 columns of one length", gate=True),
    Rule("indices-valid", "indices are rows, and no image pairs with itself", gate=True),
    Rule("roles-right", "positives are near pairs, negatives far ones", declarable=True),
    Rule(
        "near-thresholds",
        "so are pairs at a radius, or 1 mm from it",
        declarable=True,
        after="roles-right",
    ),
    Rule("seed", "the context's seed decides every tuple; calls leave no trace"),
    Rule("inputs-unmodified", "embeddings and batch are left as they were"),
    TRACE,
    *CONDITIONS,
)

INFLUENCE = (
    *FACTORY,
    Rule("shape-and-dtype", "weights have the shape and dtype of the distances", gate=True),
    Rule("range", "weights are finite and in [0, 1] from 0 m to 1,000 km", gate=True),
    Rule("monotone", "weights never rise with distance"),
    Rule("value-at-zero", "repulsion_start_m says where the weight leaves 1"),
    Rule("support", "every pair inside support_m has a positive weight"),
    Rule("learns", "a step down a gradient with it brings near images together"),
    Rule("across-regions", "the weight is 0 at an infinite distance", after="learns"),
    Rule("inputs-unmodified", "distances are left as they were"),
    Rule("headings", "different headings never weigh more; support_rad says where they end"),
    Rule("device-code", "device_code agrees to float32 rounding", declarable=True),
    TRACE,
)

DATASET = (
    *FACTORY,
    Rule("opens", "it opens, or says in one error what it lacks", gate=True),
    Rule("lengths", "columns are of one length, their types and codes right"),
    Rule("metres-plausible", "positions are metres, headings radians", declarable=True),
    Rule("splits-disjoint", "training images are apart from the others", declarable=True),
    Rule("images", "load_image gives uint8 (3, H, W); names differ"),
    Rule("deterministic", "opened twice, it is the same", after="images"),
    Rule("picklable", "a copy in another process gives the same images", after="images"),
    replace(TRACE, after="images"),
)

NETWORK = (
    *FACTORY,
    Rule("shapes", "what comes out is finite and of the declared shape", gate=True),
    Rule("one-image", "an image alone gives what it gives in a batch", declarable=True),
    Rule("odd-sizes", "images of any size are taken, or refused in one error"),
    Rule("half-precision", "16 bits give finite numbers", declarable=True),
    Rule("inputs-unmodified", "the batch is left as it was"),
    Rule("gradient", "a gradient reaches what is trained, and nothing else"),
    Rule("state-dict", "the state_dict decides every number", after="one-image"),
    Rule("picklable", "a copy in another process gives the same numbers", after="one-image"),
    Rule(
        "in-chunks",
        "a batch in chunks gives the same numbers",
        declarable=True,
        after="one-image",
    ),
    Rule("flat-images", "images of one colour give finite numbers", declarable=True),
    replace(REGISTERED, after="state-dict"),
    TRACE,
)

RERANKER = (
    *FACTORY,
    Rule("scores", "it returns a finite score of at least 0 per reference", gate=True),
    Rule("same-image", "an image is verified against itself"),
    Rule("other-scene", "other scenes are not verified", declarable=True),
    Rule("no-detail", "images without detail score 0", declarable=True),
    Rule("pairs-alone", "a score depends on its pair of images alone"),
    Rule("inputs-unmodified", "images are left as they were"),
    Rule("picklable", "a copy in another process gives the same scores"),
    TRACE,
)

RULES: dict[str, tuple[Rule, ...]] = {
    "plugin": PLUGIN,
    "loss": LOSS,
    "miner": MINER,
    "influence": INFLUENCE,
    "dataset": DATASET,
    "backbone": NETWORK,
    "pooling": NETWORK,
    "model": NETWORK,
    "reranker": RERANKER,
}
"""The checks of each kind of component, and of a plugin as a whole."""


def declarable(kind: str) -> tuple[str, ...]:
    """Return the keys that a factory of ``kind`` may have in ``limits``."""
    return tuple(rule.name for rule in RULES[kind] if rule.declarable)
