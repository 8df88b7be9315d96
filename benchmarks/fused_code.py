"""Registers, spills and shared memory of the loss's fused kernels, compiled without a GPU.

Triton compiles every pass of ``mlcore_soft_contrastive.fused`` ahead of time for each
architecture, at D = 256 with mining and the default influence function. Registers per thread,
bytes of spilled registers per thread, KiB of shared memory per program of 8 warps. These say
whether the kernels fit, not how fast they are.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks import _common as common

DURATION = "about 3 minutes"

ARCHITECTURES = (80, 90, 100)
PRECISIONS = ("float32", "tf32", "bfloat16")


def main(argv: Sequence[str]) -> int:
    """Run the benchmark."""
    options = common.parser(__file__, __doc__ or "").parse_args(argv)
    from mlcore_soft_contrastive import Sigmoid
    from mlcore_soft_contrastive.fused import ahead

    architectures = ARCHITECTURES[1:2] if options.quick else ARCHITECTURES
    lines = [
        "| pass | precision | " + " | ".join(f"sm_{a}" for a in architectures) + " |",
        "|---|---|" + "---|" * len(architectures),
    ]
    for step in ahead.PASSES[:1] if options.quick else ahead.PASSES:
        for precision in PRECISIONS:
            cells = []
            for architecture in architectures:
                code = ahead.compiled(step, architecture, precision, Sigmoid().device_code())
                cells.append(f"{code.registers} / {code.stack} / {code.shared / 1024:.0f}")
            lines.append(f"| {step} | {precision} | " + " | ".join(cells) + " |")
            print(lines[-1], flush=True)
    common.report(
        __file__,
        __doc__ or "",
        "registers / spilled bytes / KiB shared\n\n" + "\n".join(lines),
        options=options,
        argv=argv,
        method="triton.compile with the options of a launch; figures by cuobjdump -res-usage",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
