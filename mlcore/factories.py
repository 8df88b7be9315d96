"""What a plugin returns: factories, one kind for each kind of component.

A factory is a description that costs nothing to make: its name, its options as a
dataclass, what it needs, and a ``build`` function that does the importing and the work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mlcore.errors import require_library
from mlcore.protocols import (
    FeatureShape,
    InfluenceFunction,
    Loss,
    Miner,
    Pairs,
    PlaceDataset,
    Progress,
    Reranker,
    Triplets,
    no_progress,
)

if TYPE_CHECKING:
    from mlcore.models import Backbone, EmbeddingModel, Pooling

Need = Literal["tuples", "labels", "positions", "other-far"]


@dataclass(frozen=True, kw_only=True)
class BuildContext:
    """What only a run knows, handed to ``build`` beside the component's own options.

    Built in order data set, backbone, pooling, model, influence function, miner, loss: a
    field is set as soon as it is known and keeps its default before.

    Attributes:
        seed: Seed of the run; components derive their own generators from it.
        cache_dir: Folder for what can be made again (rendered or prepared data); None for
            the user's, :func:`mlcore.files.user_cache_dir`.
        progress: Told how far long work has come.
        input_size_px: Height and width of the images the model gets; None before it is known.
        features: What the backbone gives, for a pooling.
        backbone: The built backbone, for a model that is put together from parts.
        pooling: The built pooling, likewise.
        embedding_dim: ``D`` of the embeddings a loss gets.
        num_places: Number of classes of ``Batch.place_id``.
        near_radius_m: Sampling: images within this distance may be near.
        far_radius_m: Sampling: images beyond this distance may be far.
        near_heading_limit_rad: Sampling: largest heading difference of near images.
        tuples_per_batch: Sampling: tuples in one batch.
        has_headings: Whether ``Batch.headings_rad`` is there.
        influence: The chosen influence function, for a loss that uses one.
    """

    seed: int = 0
    cache_dir: Path | None = None
    progress: Progress = no_progress
    input_size_px: tuple[int, int] | None = None
    features: FeatureShape = field(default_factory=FeatureShape)
    backbone: Backbone | None = None
    pooling: Pooling | None = None
    embedding_dim: int = 0
    num_places: int = 0
    near_radius_m: float = 15.0
    far_radius_m: float = 15.0
    near_heading_limit_rad: float | None = None
    tuples_per_batch: int = 1
    has_headings: bool = False
    influence: InfluenceFunction | None = None


@dataclass(frozen=True, kw_only=True)
class Factory:
    """Describes a component and builds it; plugins return the subclasses.

    Attributes:
        name: Kebab-case name on the command line; ``name`` itself is reserved.
        summary: One line for ``mlcore list``.
        config: A frozen, keyword-only dataclass of options. Every field has a default
            and its docstring (an ``Attributes:`` section) says meaning and unit.
        build: ``build(config, context)`` returns the component; imports what it needs
            inside.
        source: Paper or address the component comes from.
        aliases: Further names.
        limits: Known limits in words, by the name of the conformance check that does not
            hold, such as ``{"no-positive": "raises when no anchor has a positive"}``. Shown
            by ``mlcore plugins NAME``; at run time named in the one error they lead to; a
            declared limit that does not occur fails the conformance kit.
        requires: Libraries that building it needs and a plain installation of the plugin
            lacks: the name Python imports, and what pip installs it with, such as
            ``{"captum": "my-plugin[captum]"}``. Without them the component is listed, and
            choosing it is refused with that line before anything else is done.
    """

    kind: ClassVar[str] = ""

    name: str
    summary: str
    config: type[Any]
    build: Callable[[Any, BuildContext], Any]
    source: str = ""
    aliases: tuple[str, ...] = ()
    limits: Mapping[str, str] = field(default_factory=dict)
    requires: Mapping[str, str] = field(default_factory=dict)

    def require_libraries(self) -> None:
        """Check that the libraries named by ``requires`` are installed; imports none.

        Raises:
            MissingLibraryError: One is not.
        """
        for module, install in self.requires.items():
            require_library(f"{self.kind} {self.name!r}", module, install)


@dataclass(frozen=True, kw_only=True)
class LossFactory(Factory):
    """Describes a loss.

    Attributes:
        uses_influence: Whether ``context.influence`` is read, so that ``--influence``
            makes sense.
        mining: "external" takes the tuples of a miner; "internal" mines by itself and
            "none" takes whatever is in the batch: for both, ``--miner`` is an error.
        accepts: What form of tuples an external miner must deliver; the engine turns
            :class:`Triplets` into :class:`Pairs` where that is what is accepted.
        needs: What the loss reads of the batch. "other-far" makes the sampler draw one
            more far image a tuple.
        normalize: Whether embeddings are L2-normalised, in training and in retrieval.
        memory: Growth of memory with the number of images in a batch, as tuples of one
            size are added to it. The conformance kit measures it.
    """

    kind: ClassVar[str] = "loss"

    build: Callable[[Any, BuildContext], Loss]
    uses_influence: bool = False
    mining: Literal["internal", "external", "none"] = "none"
    accepts: type[Pairs | Triplets] | None = None
    needs: frozenset[Need] = frozenset()
    normalize: bool = True
    memory: Literal["linear", "quadratic", "cubic"] = "quadratic"


@dataclass(frozen=True, kw_only=True)
class MinerFactory(Factory):
    """Describes a miner.

    Attributes:
        produces: What form of tuples it returns.
    """

    kind: ClassVar[str] = "miner"

    build: Callable[[Any, BuildContext], Miner]
    produces: type[Pairs | Triplets]


@dataclass(frozen=True, kw_only=True)
class InfluenceFactory(Factory):
    """Describes an influence function."""

    kind: ClassVar[str] = "influence"

    build: Callable[[Any, BuildContext], InfluenceFunction]


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Published weights that a backbone can start from, chosen by ``--model.weights NAME``.

    They lie in an installed package, or are downloaded once into mlcore's cache folder.

    Attributes:
        name: Kebab-case name; "imagenet" for what is usual.
        file: Name of the file; within ``package``, if that is set, its path there.
        package: Import name of a package that holds the file.
        install: What to give pip if the package is missing.
        address: Where the file is downloaded from, or a function that returns it.
        sha256: SHA-256 of the file in hexadecimal digits, or how it begins; "" checks nothing.
        licence: Licence of the weights.
        training: Recommended values of ``[training]`` options, such as
            ``{"learning_rate": 1e-4}``; what the user gives wins.
    """

    name: str
    file: str
    package: str = ""
    install: str = ""
    address: str | Callable[[], str] = ""
    sha256: str = ""
    licence: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)

    def require_package(self) -> None:
        """Raise MissingLibraryError if the weights are in a package that is not installed."""
        if self.package:
            require_library(f"--model.weights {self.name}", self.package, self.install)


def no_weights(_: Any) -> tuple[Weights, ...]:
    """Offer no published weights."""
    return ()


@dataclass(frozen=True, kw_only=True)
class BackboneFactory(Factory):
    """Describes a backbone, built with random weights.

    Attributes:
        weights: ``weights(config)`` returns the published weights that fit a backbone with
            these options; the first is the default. Called when a command starts, so it
            imports nothing heavy.
        pooling: Name of the pooling that suits the features, if none is chosen.
        training: Recommended values of ``[training]`` options with weights of one's own (a
            file or a run), as in :class:`Weights`.
    """

    kind: ClassVar[str] = "backbone"

    build: Callable[[Any, BuildContext], Backbone]
    weights: Callable[[Any], Sequence[Weights]] = no_weights
    pooling: str = "average"
    training: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PoolingFactory(Factory):
    """Describes a pooling.

    Attributes:
        needs: What it needs beside maps of features: "token", a class token; "size", maps of
            one known size, which ``context.features`` then has.
    """

    kind: ClassVar[str] = "pooling"

    build: Callable[[Any, BuildContext], Pooling]
    needs: frozenset[Literal["token", "size"]] = frozenset()


@dataclass(frozen=True, kw_only=True)
class ModelFactory(Factory):
    """Describes a whole embedding model, or a named pair of a backbone and a pooling.

    Attributes:
        config: As of every factory, and derived from ``mlcore.models.ModelConfig``.
        trainable: False for a fixed baseline such as the pixels of the image.
        backbone: Name of the backbone of a named pair; "" for a whole network. The engine
            builds it first, with those options of ``config`` that it has by the same name,
            and hands it over as ``context.backbone``.
        pooling: Name of its pooling, unless the options have one as ``pooling``; handed over
            as ``context.pooling``.
    """

    kind: ClassVar[str] = "model"

    build: Callable[[Any, BuildContext], EmbeddingModel]
    trainable: bool = True
    backbone: str = ""
    pooling: str = ""


@dataclass(frozen=True, kw_only=True)
class RerankerFactory(Factory):
    """Describes a reranker: what compares a photograph with the references found for it."""

    kind: ClassVar[str] = "reranker"

    build: Callable[[Any, BuildContext], Reranker]


@dataclass(frozen=True, kw_only=True)
class SamplingRadii:
    """Radii that suit a data set.

    Attributes:
        near_radius_m: Near images lie within this distance (metres) of the anchor.
        far_radius_m: Far images lie beyond this distance (metres) of it.
    """

    near_radius_m: float = 15.0
    far_radius_m: float = 15.0


@dataclass(frozen=True)
class Finding:
    """One thing that a data check found.

    Attributes:
        severity: "fault" spoils a result, "warning" may, "info" does not.
        message: What is wrong, where, and how to fix it.
        count: How many files, rows or images it concerns.
        examples: A few of their names.
        name: Kebab-case name of the kind of finding. The option ``accept_faults`` of the data
            set may list the name of a fault; a fault without one cannot be accepted.
    """

    severity: Literal["info", "warning", "fault"]
    message: str
    count: int = 1
    examples: tuple[str, ...] = ()
    name: str = ""

    def __str__(self) -> str:
        """Return message, count and examples as one line."""
        if self.count == 1 and not self.examples:
            return self.message
        shown = ", ".join(self.examples) + (", ..." if len(self.examples) < self.count else "")
        return f"{self.message} ({self.count}{f': {shown}' if self.examples else ''})"


@dataclass(frozen=True)
class Report:
    """What a data set's ``check``, ``prepare``, ``write`` or ``draft`` has to say.

    Attributes:
        facts: Label and value pairs for the table: layout, counts, extent.
        findings: What was found wrong or worth knowing.
        commands: Command lines to go on with.
    """

    facts: Mapping[str, str | int | float] = field(default_factory=dict)
    findings: Sequence[Finding] = ()
    commands: Sequence[str] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing was found that would spoil a result."""
        return not any(finding.severity == "fault" for finding in self.findings)


@dataclass(frozen=True, kw_only=True)
class DatasetFactory(Factory):
    """Describes a data set.

    Attributes:
        check: ``check(config)`` examines the files for ``mlcore data check``. One that also
            takes ``full=True`` decodes every image then, for ``--full``.
        prepare: ``prepare(config, out, progress)`` writes what makes opening fast, for
            ``mlcore data prepare``.
        write: ``write(options, dataset, out, progress)`` writes any data set in the form that
            this one reads, for ``mlcore data write``. ``out`` is an empty folder.
        write_config: Dataclass of the options of ``write``, as ``config`` is of the data set's.
        draft: ``draft(options, folder, out, progress)`` writes a table of a folder's images to
            the new file ``out``, for ``mlcore data draft``; the data set's options ``root`` and
            ``table`` open them.
        draft_config: Dataclass of the options of ``draft``.
        radii: Sampling radii that suit the data; a configuration overrides them.
    """

    kind: ClassVar[str] = "dataset"

    build: Callable[[Any, BuildContext], PlaceDataset]
    check: Callable[..., Report] | None = None
    prepare: Callable[[Any, Path, Progress], Report] | None = None
    write: Callable[[Any, PlaceDataset, Path, Progress], Report] | None = None
    write_config: type[Any] | None = None
    draft: Callable[[Any, Path, Path, Progress], Report] | None = None
    draft_config: type[Any] | None = None
    radii: SamplingRadii = SamplingRadii()


def shared_options(config: type[Any], options: Any) -> Any:
    """Return options of a part of a named pair: the pair's values of the names both have.

    Args:
        config: Dataclass of the part's options.
        options: The pair's options.
    """
    names = {field.name for field in fields(config)} & {f.name for f in fields(options)}
    return config(**{name: getattr(options, name) for name in names})
