"""Stores the results of a run: one file per protocol, never overwritten.

``evaluation.json`` holds the results of the run's own protocol, ``evaluations/`` those of other
splits, data and options. No result is lost: results that differ from those in a file are
written to a new file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mlcore.errors import DataError
from mlcore.evaluation.documents import from_document, to_document
from mlcore.evaluation.results import Evaluation
from mlcore.run_folder import RunFolder


class Recorded(NamedTuple):
    """A file of results.

    Attributes:
        path: The file.
        results: Of one protocol.
    """

    path: Path
    results: list[Evaluation]


def recorded(run: RunFolder) -> list[Recorded]:
    """Return all results of a run, those of its own protocol first.

    Raises:
        DataError: A file is no evaluation.
    """
    beside = sorted(
        run.evaluations.glob("*.json"), key=lambda path: (len(path.name), path.name)
    )
    paths = [run.evaluation, *beside]
    return [Recorded(path, read_results(run, path)) for path in paths if path.exists()]


def read_results(run: RunFolder, path: Path) -> list[Evaluation]:
    """Read one file of results.

    Raises:
        DataError: The file is missing or no evaluation.
    """
    content = run.read_json(path)
    try:
        return from_document(content)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def record(run: RunFolder, results: Sequence[Evaluation], *, own: bool = False) -> Path:
    """Add results to those of the run, and return the file.

    Models that a file of the same protocol lacks are added to it.

    Args:
        run: The run.
        results: Of one protocol.
        own: Whether they belong into ``evaluation.json``, as those of its training do; other
            results there move to ``evaluations/``.

    Raises:
        DataError: A file of the run is no evaluation.
    """
    files = recorded(run)
    for path, known in files:
        if _agree(known, results) and (not own or path == run.evaluation):
            names = {one.model for one in known}
            missing = [one for one in results if one.model not in names]
            if missing:
                run.write_json(path, to_document([*known, *missing]))
            return path
    if not run.evaluation.exists():
        own = True
    elif own:
        _write_beside(run, files[0].results)
    if own:
        run.write_json(run.evaluation, to_document(results))
        return run.evaluation
    return _write_beside(run, results)


def _write_beside(run: RunFolder, results: Sequence[Evaluation]) -> Path:
    """Write results to a new file in ``evaluations/``."""
    protocol = results[0].protocol
    run.evaluations.mkdir(exist_ok=True)
    stem = f"{protocol.split}-{protocol.digest[:8]}"
    path = run.evaluations / f"{stem}.json"
    number = 1
    while path.exists():
        number += 1
        path = run.evaluations / f"{stem}-{number}.json"
    run.write_json(path, to_document(results))
    return path


def _agree(known: Sequence[Evaluation], results: Sequence[Evaluation]) -> bool:
    """Whether results can share a file: one protocol, and no model with two results.

    The protocol does not name the whitening, so that it is compared for models that are in
    only one of the two.
    """
    if known[0].protocol != results[0].protocol or _whitenings(known) != _whitenings(results):
        return False
    documents = {one.model: to_document([one]) for one in known}
    return all(
        documents.get(one.model, document) == document
        for one in results
        for document in [to_document([one])]
    )


def _whitenings(results: Sequence[Evaluation]) -> set[str]:
    """Return what the results were whitened on, the baselines that never are aside."""
    return {one.whitening for one in results} - {"none"} or {"none"}
