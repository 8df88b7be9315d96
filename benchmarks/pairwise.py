"""Pairwise Euclidean distances of N points: ours, torch.cdist, scipy, scikit-learn, faiss.

"exact" rivals subtract before they square. The others use |x|^2 + |y|^2 - 2 x.y, which is
wrong by kilometres on raw UTM coordinates in float32: they are shown, and marked.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial

from benchmarks import _common as common

DURATION = "about 3 minutes"
CUDA_COMMAND = "python -m benchmarks.pairwise --device cuda --save"
INEXACT = " (matrix product)"
OURS = "pairwise_distance"
FLOOR = "writing N x N floats"


def main(argv: Sequence[str]) -> int:
    """Run the benchmark."""
    options = common.parser(__file__, __doc__ or "").parse_args(argv)
    cuda = options.device == "cuda"
    size = 256 if options.quick else 16384 if cuda else 4096
    repeats = 2 if options.quick else 7
    tables = []
    for dim in (2, 256):
        timings = common.measure(
            _runs(size, dim, options.device),
            repeats=repeats,
            warmup=1,
            synchronize=_synchronize if cuda else None,
        )
        exact = {
            k: t.median
            for k, t in timings.items()
            if INEXACT not in k and k not in (OURS, FLOOR)
        }
        fastest = min(exact, key=lambda name: exact[name])
        rows = [(name, timing) for name, timing in timings.items()]
        ratio = timings[OURS].median / exact[fastest]
        tables.append(
            f"## N = {size}, D = {dim}, float32\n\n"
            + common.markdown_table(["what", "time"], rows)
            + f"\n\nOurs takes {ratio:.2f} times as long as the fastest exact rival, {fastest}."
        )
    if not cuda:
        tables.append(f"## GPU\n\nnot measured: `{CUDA_COMMAND}`")
    common.report(
        __file__,
        __doc__ or "",
        "\n\n".join(tables),
        options=options,
        argv=argv,
        method=f"1 warm-up, {repeats} repeats, interleaved; median [smallest, largest]",
    )
    return 0


def _runs(size: int, dim: int, device: str) -> dict[str, Callable[[], object]]:
    import torch

    from mlcore_soft_contrastive import pairwise_distance

    x = torch.randn(size, dim, generator=torch.Generator().manual_seed(0)).to(device)
    cdist = partial(torch.cdist, x, x)
    runs: dict[str, Callable[[], object]] = {
        OURS: partial(pairwise_distance, x),
        "torch.cdist": partial(cdist, compute_mode="donot_use_mm_for_euclid_dist"),
        f"torch.cdist{INEXACT}": partial(cdist, compute_mode="use_mm_for_euclid_dist"),
    }
    if device == "cuda":
        out = torch.empty(size, size, device=device)
        return runs | {FLOOR: partial(out.fill_, 1.0)}
    import faiss
    from scipy.spatial.distance import cdist as scipy_cdist
    from sklearn.metrics.pairwise import euclidean_distances

    array = x.numpy()
    return runs | {
        "scipy cdist (float64)": partial(scipy_cdist, array, array),
        f"scikit-learn{INEXACT}": partial(euclidean_distances, array),
        f"faiss{INEXACT}": partial(faiss.pairwise_distances, array, array),
    }


def _synchronize() -> None:
    import torch

    torch.cuda.synchronize()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
