"""``mlcore data check msls``: every table read, every file looked for, a sample decoded."""

from __future__ import annotations

from mlcore.data import (
    apart_m,
    check_coverage,
    check_files,
    check_opened,
    check_splits,
)
from mlcore.errors import DataError
from mlcore.factories import Finding, Report
from mlcore_msls.config import RADII, MslsConfig
from mlcore_msls.dataset import open_msls


def check_msls(config: MslsConfig, *, full: bool = False) -> Report:
    """Examine tables and images; what stops the data set from opening is a fault.

    Args:
        config: Options.
        full: Whether to decode every image, not a sample.

    Raises:
        ConfigError: The root is missing, or a city is in two splits.
    """
    try:
        dataset = open_msls(config)
    except DataError as error:
        return Report(findings=(Finding("fault", str(error)),))
    missing = dataset.missing()
    findings = check_opened(dataset, near_radius_m=RADII.near_radius_m)
    findings += check_splits(dataset)
    findings += check_files(
        dataset,
        len(dataset),
        missing,
        full=full,
        absent="image files are missing; extract every archive of the download",
        unreadable="images cannot be decoded; extract them again",
    )
    facts: dict[str, str | int | float] = {
        "images": len(dataset),
        "missing files": len(missing),
    }
    for name in ("train", "validation", "test"):
        try:
            split = getattr(dataset, name)
        except DataError:
            continue
        facts[f"{name}: references"] = len(split.references)
        facts[f"{name}: queries"] = len(split.queries)
        tables = split.references, split.queries
        if name == "test" and all(map(len, tables)):
            findings += check_coverage(
                name, *(apart_m(t.positions_m, t.region) for t in tables)
            )
    return Report(facts=facts, findings=tuple(findings))
