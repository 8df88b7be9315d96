"""What the plugin ``robotcar`` provides: one data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlcore import BuildContext, DatasetFactory, Report, hookimpl
from mlcore.protocols import PlaceDataset, Progress
from mlcore_robotcar.config import RADII, RobotCarConfig, expect_read
from mlcore_robotcar.write.config import RobotCarWriteConfig

if TYPE_CHECKING:
    from mlcore_robotcar.dataset import RobotCarDataset

mlcore_hook_api = 1


def _build(config: RobotCarConfig, context: BuildContext) -> RobotCarDataset:
    from mlcore_robotcar.dataset import find_layout, open_robotcar

    expect_read(config, find_layout)
    return open_robotcar(config, context.cache_dir, context.progress)


def _check(config: RobotCarConfig, *, full: bool = False) -> Report:
    from mlcore_robotcar.checking import check_robotcar
    from mlcore_robotcar.dataset import find_layout

    expect_read(config, find_layout)
    return check_robotcar(config, full=full)


def _prepare(config: RobotCarConfig, out: Path, progress: Progress) -> Report:
    from mlcore_robotcar.prepare.prepare import prepare_robotcar

    expect_read(config, None)
    return prepare_robotcar(config, out, progress)


def _write(
    options: RobotCarWriteConfig, dataset: PlaceDataset, out: Path, progress: Progress
) -> Report:
    from mlcore_robotcar.write.write import write_robotcar

    return write_robotcar(options, dataset, out, progress)


@hookimpl
def mlcore_datasets() -> list[DatasetFactory]:
    """Return the data set of Oxford RobotCar."""
    return [
        DatasetFactory(
            name="robotcar",
            summary="Oxford RobotCar: one route in all weathers, from the download's tars",
            source="Maddern et al., 1 Year, 1000 km: The Oxford RobotCar Dataset, 2017",
            config=RobotCarConfig,
            requires={"cv2": "mlcore-localization[robotcar]"},
            build=_build,
            check=_check,
            prepare=_prepare,
            write=_write,
            write_config=RobotCarWriteConfig,
            radii=RADII,
        )
    ]
