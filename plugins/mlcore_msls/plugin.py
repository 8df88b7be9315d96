"""What the plugin ``msls`` provides: one data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlcore import BuildContext, DatasetFactory, Report, hookimpl
from mlcore_msls.config import RADII, MslsConfig

if TYPE_CHECKING:
    from mlcore.data import ListedImages

mlcore_hook_api = 1


def _build(config: MslsConfig, context: BuildContext) -> ListedImages:
    del context  # nothing is drawn, cached or slow
    from mlcore_msls.dataset import open_msls

    return open_msls(config)


def _check(config: MslsConfig, *, full: bool = False) -> Report:
    from mlcore_msls.checking import check_msls

    return check_msls(config, full=full)


@hookimpl
def mlcore_datasets() -> list[DatasetFactory]:
    """Return the data set MSLS."""
    return [
        DatasetFactory(
            name="msls",
            summary="Mapillary Street-Level Sequences: streets of many cities over years",
            source="Warburg et al., Mapillary Street-Level Sequences, CVPR 2020",
            config=MslsConfig,
            build=_build,
            check=_check,
            radii=RADII,
        )
    ]
