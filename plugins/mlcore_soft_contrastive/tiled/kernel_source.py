"""The kernels' text: ``kernels/*.cu``, and what an influence function puts before it."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from importlib import resources
from typing import Literal

from mlcore.errors import ConfigError
from mlcore.protocols import DeviceCode


@dataclass(frozen=True)
class Variant:
    """What the tile kernels are compiled for; what a variant lacks costs nothing per pair.

    Attributes:
        coordinates: 2 or 3.
        headings: Whether headings do not matter, exclude pairs, or weigh them as well.
        regions: Whether images lie in several regions.
        repulsion_starts: Whether pairs at a distance of 0 may not repel.
        plain: Whether sums have no exponents.
    """

    coordinates: Literal[2, 3] = 2
    headings: Literal["none", "limit", "weigh"] = "none"
    regions: bool = False
    repulsion_starts: bool = False
    plain: bool = False

    def lines(self) -> list[str]:
        """Return the variant for the preprocessor."""
        flags = {
            "REGIONS": self.regions,
            "REPULSION_STARTS": self.repulsion_starts,
            "PLAIN": self.plain,
        }
        return [
            f"#define COORDINATES {self.coordinates}",
            f"#define HEADINGS {('none', 'limit', 'weigh').index(self.headings)}",
            *(f"#define {name}" for name, on in flags.items() if on),
        ]


def tiles_source(
    code: DeviceCode, variant: Variant | None = None, *, turns: bool | None = None
) -> str:
    """Return the source of the tile kernels for one influence function.

    Args:
        code: Of the influence function.
        variant: What to compile for; None for all defaults.
        turns: For a function of distance and headings, whether the images have headings; if
            not, their difference counts as 0.

    Raises:
        ConfigError: A parameter's name is no C identifier.
    """
    for name in code.parameters:
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise ConfigError(
                f"influence: parameter name {name!r} is not a valid C identifier; rename it"
            )
    return _tiles_source(code.expression, tuple(code.parameters), variant or Variant(), turns)


@functools.cache
def _tiles_source(
    expression: str, names: tuple[str, ...], variant: Variant, turns: bool | None
) -> str:
    """Return the source: once, as putting it together takes as long as a dozen launches."""
    parameters = [
        f"  const float {name} = rule.influence[{k}];" for k, name in enumerate(names)
    ]
    heading = ", float h" if turns else ""
    return "\n".join(
        [
            *variant.lines(),
            f"#define PARAMETERS {max(1, len(names))}",
            _read("rows.cu"),
            # One instruction for a power of 2; wherever the exponent is so large that rounding
            # it matters, what it is the exponent of is negligible beside 1, or the weight is.
            "#define expf(x) exp2f(1.4426950408889634f * (x))",
            f"static __device__ __forceinline__ float influence(float d{heading},",
            "                                                   const Rule& rule) {",
            *parameters,
            *(["  const float h = 0.0f;"] if turns is False else []),
            f"  return {expression};",
            "}",
            "#undef expf",
            _read("tiles.cu"),
        ]
    )


@functools.cache
def pairwise_source() -> str:
    """Return the source of the pairwise distance kernels."""
    return _read("pairwise.cu")


def _read(name: str) -> str:
    folder = resources.files("mlcore_soft_contrastive") / "kernels"
    return (folder / name).read_text(encoding="utf-8")
