"""Pairwise distances, alone."""
