"""How good a model is: the protocol, its results, comparisons, sweeps, and pictures of why."""
