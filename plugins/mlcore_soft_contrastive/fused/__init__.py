"""The loss with product and elementwise work in one Triton kernel: no similarity is written."""
