"""From places to batches: plans of tuples, hard images, and the loader that reads them."""
