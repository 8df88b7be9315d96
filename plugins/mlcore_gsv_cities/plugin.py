"""What the plugin ``gsv-cities`` provides: one data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlcore import BuildContext, DatasetFactory, Report, hookimpl
from mlcore_gsv_cities.config import RADII, GsvCitiesConfig

if TYPE_CHECKING:
    from mlcore.data import ListedImages

mlcore_hook_api = 1


def _build(config: GsvCitiesConfig, context: BuildContext) -> ListedImages:
    del context  # nothing is drawn, cached or slow
    from mlcore_gsv_cities.dataset import open_gsv_cities

    return open_gsv_cities(config)


def _check(config: GsvCitiesConfig, *, full: bool = False) -> Report:
    from mlcore_gsv_cities.checking import check_gsv_cities

    return check_gsv_cities(config, full=full)


@hookimpl
def mlcore_datasets() -> list[DatasetFactory]:
    """Return the data set GSV-Cities."""
    return [
        DatasetFactory(
            name="gsv-cities",
            summary="GSV-Cities: Street View images of places in many cities, at several times",
            source="Ali-bey et al., GSV-Cities, Neurocomputing 2022",
            config=GsvCitiesConfig,
            build=_build,
            check=_check,
            radii=RADII,
        )
    ]
