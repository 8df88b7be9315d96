"""What the plugin ``verification`` provides: a reranker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlcore import BuildContext, RerankerFactory, hookimpl
from mlcore_verification.config import SiftConfig

if TYPE_CHECKING:
    from mlcore_verification.sift import SiftReranker

mlcore_hook_api = 1


def _build(config: SiftConfig, context: BuildContext) -> SiftReranker:
    del context  # nothing is drawn or cached
    from mlcore_verification.sift import SiftReranker

    return SiftReranker(config)


@hookimpl
def mlcore_rerankers() -> list[RerankerFactory]:
    """Return the reranker with SIFT and RANSAC."""
    return [
        RerankerFactory(
            name="sift",
            summary="SIFT matches that agree with a homography, found by RANSAC",
            source="Lowe, IJCV 2004; Fischler and Bolles, CACM 1981",
            config=SiftConfig,
            build=_build,
            requires={"cv2": "mlcore-localization[verification]"},
        )
    ]
