"""Which traversals are searched, and which are looked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlcore.errors import ConfigError, did_you_mean
from mlcore_robotcar.config import RobotCarConfig


@dataclass(frozen=True, kw_only=True)
class Roles:
    """The part that each traversal plays.

    Attributes:
        reference: Searched in the test, visited in training.
        queries: Looked for in the test.
        validation_reference: Searched in the validation.
        validation_queries: Looked for in the validation.
        never_train: Traversals that take no part in training.
        notes: Which of them are not there.
    """

    reference: str
    queries: tuple[str, ...]
    validation_reference: str
    validation_queries: tuple[str, ...]
    never_train: frozenset[str]
    notes: tuple[str, ...] = ()


PAPER = Roles(
    reference="2014-12-02-15-30-08",
    queries=(
        "2015-08-14-14-54-57",
        "2014-11-18-13-20-12",
        "2014-12-17-18-18-43",
        "2015-02-03-08-45-10",
    ),
    validation_reference="2014-06-26-09-24-58",
    validation_queries=("2014-05-14-13-50-20",),
    never_train=frozenset(),
)
"""The paper's: overcast; overcast, sun, night with rain, snow."""


def resolve(config: RobotCarConfig, dates: Sequence[str]) -> Roles:
    """Return the roles of the traversals that are there.

    Args:
        config: Protocol, and what overrides it.
        dates: Traversals that are there, in the order of time.

    Raises:
        ConfigError: A traversal that an option names is not there.
    """
    _expect_there(config, dates)
    if config.protocol == "paper":
        reference, queries = PAPER.reference, PAPER.queries
        validation = PAPER.validation_reference, PAPER.validation_queries
    else:
        reference = config.reference or next(iter(dates), "")
        queries = tuple(date for date in dates if date != reference)
        validation = reference, queries
    reference, queries = config.reference or reference, config.queries or queries
    validation_reference = config.validation_reference or validation[0]
    validation_queries = config.validation_queries or validation[1]
    named = (reference, *queries, validation_reference, *validation_queries)
    missing = [date for date in dict.fromkeys(named) if date and date not in dates]
    # Under "all" each traversal is a query: its images of the training region train.
    held_out = config.queries or (queries if config.protocol == "paper" else ())
    return Roles(
        reference=reference,
        queries=tuple(date for date in queries if date in dates),
        validation_reference=validation_reference,
        validation_queries=tuple(date for date in validation_queries if date in dates),
        never_train=frozenset(held_out),
        notes=(f"missing traversals of the protocol: {', '.join(missing)}",) if missing else (),
    )


def _expect_there(config: RobotCarConfig, dates: Sequence[str]) -> None:
    for option in ("reference", "queries", "validation_reference", "validation_queries"):
        value = getattr(config, option)
        for date in (value,) if isinstance(value, str) else value:
            if date and date not in dates:
                raise ConfigError(
                    f"dataset.{option} names {date!r}, which is not a traversal of "
                    f"{config.root}{did_you_mean(date, dates)}"
                )
