"""What the plugin ``images`` provides: one data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlcore import BuildContext, DatasetFactory, Report, hookimpl
from mlcore_images.config import DraftConfig, ImagesConfig

if TYPE_CHECKING:
    from pathlib import Path

    from mlcore.protocols import Progress
    from mlcore_images.dataset import ImagesDataset

mlcore_hook_api = 1


def _build(config: ImagesConfig, context: BuildContext) -> ImagesDataset:
    del context  # nothing is drawn, cached or slow
    from mlcore_images.dataset import open_images

    return open_images(config)


def _check(config: ImagesConfig, *, full: bool = False) -> Report:
    from mlcore_images.checks.checking import check_images

    return check_images(config, full=full)


def _draft(options: DraftConfig, folder: Path, out: Path, progress: Progress) -> Report:
    from mlcore_images.draft import draft_table

    return draft_table(options, folder, out, progress)


@hookimpl
def mlcore_datasets() -> list[DatasetFactory]:
    """Return the data set of your own images."""
    return [
        DatasetFactory(
            name="images",
            summary="Your own geo-tagged images: a CSV or Parquet table, file names, EXIF GPS",
            config=ImagesConfig,
            build=_build,
            check=_check,
            draft=_draft,
            draft_config=DraftConfig,
        )
    ]
