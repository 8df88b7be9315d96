"""Evaluates models: protocol, results, comparisons, sweeps, Grad-CAM and projections."""
