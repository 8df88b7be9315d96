"""Losses and miners of pytorch-metric-learning (PML) behind one adapter.

Names begin with ``pml-``. Options have the names and defaults of PML's own arguments, so
that PML's documentation applies; each loss uses PML's default distance and reducer.

What is positive and what negative is decided by geometry, never by a class label: images
along a street do not fall into classes (A near B and B near C does not make A near C).

- Losses of pairs and triplets get the tuples of a miner.
- Losses with weights for each class (proxies) get ``Batch.place_id``, the cells of a grid;
  images on two sides of a cell's edge count as different places there.
- Miners choose among an anchor's near and far images, see
  :class:`mlcore_pml.adapter.PmlMiner`.
"""
