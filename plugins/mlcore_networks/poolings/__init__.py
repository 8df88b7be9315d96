"""Poolings: features in, one vector per image out."""
