"""From positions to batches: plans of tuples, hard images, and the loader."""
