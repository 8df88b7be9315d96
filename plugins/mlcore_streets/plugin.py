"""What the plugin ``streets`` provides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlcore import BuildContext, DatasetFactory, SamplingRadii, hookimpl
from mlcore_streets.config import StreetsConfig

if TYPE_CHECKING:
    from mlcore_streets.dataset import StreetsDataset

mlcore_hook_api = 1


def _build(config: StreetsConfig, context: BuildContext) -> StreetsDataset:
    from mlcore_streets.dataset import StreetsDataset

    return StreetsDataset(config, context)


@hookimpl
def mlcore_datasets() -> list[DatasetFactory]:
    """Return the data set ``streets``."""
    return [
        DatasetFactory(
            name="streets",
            summary="a town rendered from a seed: five conditions, no download",
            config=StreetsConfig,
            build=_build,
            radii=SamplingRadii(near_radius_m=15.0, far_radius_m=15.0),
        )
    ]
