"""What the plugin ``pittsburgh`` provides: one data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlcore import BuildContext, DatasetFactory, Report, hookimpl
from mlcore.protocols import PlaceDataset, Progress
from mlcore_pittsburgh.config import RADII, PittsburghConfig
from mlcore_pittsburgh.writing_config import PittsburghWriteConfig

if TYPE_CHECKING:
    from mlcore_pittsburgh.dataset import PittsburghDataset

mlcore_hook_api = 1


def _build(config: PittsburghConfig, context: BuildContext) -> PittsburghDataset:
    del context  # nothing is drawn, cached or slow
    from mlcore_pittsburgh.dataset import open_pittsburgh

    return open_pittsburgh(config)


def _check(config: PittsburghConfig, *, full: bool = False) -> Report:
    from mlcore_pittsburgh.checking import check_pittsburgh

    return check_pittsburgh(config, full=full)


def _write(
    options: PittsburghWriteConfig, dataset: PlaceDataset, out: Path, progress: Progress
) -> Report:
    from mlcore_pittsburgh.writing import write_pittsburgh

    return write_pittsburgh(options, dataset, out, progress)


@hookimpl
def mlcore_datasets() -> list[DatasetFactory]:
    """Return the data set of Pittsburgh."""
    return [
        DatasetFactory(
            name="pittsburgh",
            summary="Pitts30k and Pitts250k: Street View images, NetVLAD spec files",
            source="Torii et al., Visual Place Recognition with Repetitive Structures, 2013; "
            "specs: Arandjelovic et al., NetVLAD, 2016",
            config=PittsburghConfig,
            build=_build,
            check=_check,
            write=_write,
            write_config=PittsburghWriteConfig,
            radii=RADII,
        )
    ]
