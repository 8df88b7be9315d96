"""The kernels' text: ``kernels/*.cu``, and what an influence function puts before it."""

from __future__ import annotations

import re
from importlib import resources

from mlcore.errors import ConfigError
from mlcore.protocols import DeviceCode


def tiles_source(code: DeviceCode) -> str:
    """Return the source of the tile kernels for one influence function.

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
    return "\n".join(
        [
            "static __device__ float influence(float d, const double* parameters) {",
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
