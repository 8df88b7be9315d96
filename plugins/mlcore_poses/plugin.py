"""What the plugin ``poses`` provides: one data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlcore import BuildContext, DatasetFactory, hookimpl
from mlcore_poses.config import PosesConfig

if TYPE_CHECKING:
    from mlcore.data import ListedImages

mlcore_hook_api = 1


def _build(config: PosesConfig, context: BuildContext) -> ListedImages:
    del context  # nothing is drawn, cached or slow
    from mlcore_poses.dataset import open_poses

    return open_poses(config)


@hookimpl
def mlcore_datasets() -> list[DatasetFactory]:
    """Return the data set of images with camera poses."""
    return [
        DatasetFactory(
            name="poses",
            summary="Images with camera poses: COLMAP, TUM or KITTI trajectories",
            config=PosesConfig,
            build=_build,
        )
    ]
