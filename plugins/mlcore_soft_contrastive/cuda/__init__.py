"""The tiled loss on a GPU: CUDA kernels for everything elementwise, cuBLAS for products."""
