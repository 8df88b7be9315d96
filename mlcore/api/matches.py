"""Where images were taken, in Python: records for programs, a table in a notebook."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mlcore.reporting.notebook import Result

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mlcore.deployment.localization import Localization, MapMatch


class Matches(Result, Sequence["list[MapMatch]"]):
    """The references found for each image, nearest first; a sequence over the images.

    Args:
        images: Names of the images.
        found: What was found for each.

    Attributes:
        images: Paths of the images, or their numbers.
        answers: Of each image, how sure its first match is.
    """

    def __init__(self, images: Sequence[str], found: Sequence[Localization]) -> None:
        self.images = tuple(images)
        self.answers = tuple(answer for _, answer in found)
        self._found = [matches for matches, _ in found]

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, index: Any) -> Any:
        return self._found[index]

    def __iter__(self) -> Iterator[list[MapMatch]]:
        return iter(self._found)

    def table(self) -> list[dict[str, Any]]:
        """Return a record for each match: image, rank from 1, and what is known of it.

        The record of the first match says in "confidence" how sure it is; others have None.
        """
        return [
            {
                "query": image,
                "rank": rank,
                "confidence": answer.confidence if rank == 1 else None,
                **asdict(match),
            }
            for image, matches, answer in zip(
                self.images, self._found, self.answers, strict=True
            )
            for rank, match in enumerate(matches, start=1)
        ]

    def view(self) -> RenderableType:
        """Return the table of ``mlcore localize``."""
        from mlcore.cli.commands.localize_map import matches_table

        several = len({match.map for matches in self._found for match in matches}) > 1
        return matches_table(self.images, self._found, several=several)

    def __repr__(self) -> str:
        return f"<Matches of {len(self)} images; print it, or see .table()>"
