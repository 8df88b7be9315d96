"""Rerankers that verify a place by the geometry of matching points."""
