"""Backbones of timm, the collection of image models with published weights."""
