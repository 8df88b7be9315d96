"""The kernels' text: ``kernels/*.cu``, and what an influence function puts before it."""

from __future__ import annotations

import re
from importlib import resources

from mlcore.errors import ConfigError
from mlcore.protocols import DeviceCode


def tiles_source(code: DeviceCode, *, turns: bool | None = None) -> str:
    """Return the source of the tile kernels for one influence function.

    Args:
        code: Of the influence function.
        turns: For one of distance and headings, whether the images have headings; if not,
            their difference counts as 0.

    Raises:
        ConfigError: A parameter's name is no C identifier.
    """
    for name in code.parameters:
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise ConfigError(
                f"influence: parameter name {name!r} is not a valid C identifier; rename it"
            )
    lines = [
        f"  const float {name} = (float)parameters[{k}];"
        for k, name in enumerate(code.parameters)
    ]
    start = ["static __device__ float influence(float d, const double* parameters) {"]
    if turns:
        start = [
            "#define WEIGHS_HEADINGS",
            "static __device__ float influence(float d, float h, const double* parameters) {",
        ]
    elif turns is False:
        start += ["  const float h = 0.0f;"]
    return "\n".join(
        [
            *start,
            *lines,
            f"  return {code.expression};",
            "}",
            _read("tiles.cu"),
        ]
    )


def pairwise_source() -> str:
    """Return the source of the pairwise distance kernels."""
    return _read("pairwise.cu")


def _read(name: str) -> str:
    folder = resources.files("mlcore_soft_contrastive") / "kernels"
    return (folder / name).read_text(encoding="utf-8")
