"""The loss in tiles: one walk, one state, and back ends in numba, torch and CUDA."""
