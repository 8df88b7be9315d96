"""Losses and miners of pytorch-metric-learning (PML) behind one adapter.

Names begin with ``pml-``. Options have the names and defaults of PML's own arguments, so
that PML's documentation applies; each loss uses PML's default distance and reducer.

What is positive and what negative is decided by geometry, never by a class label: images
along a street do not fall into classes (A near B and B near C does not make A near C).

- Losses of pairs and triplets get the tuples of a miner (``pair_losses``, ``triplet_losses``),
  or of one anchor at a time where PML needs labels (``anchor_losses``). PML returns 0 for a
  batch of only one positive and one negative pair.
- Where PML offers nothing but class labels, these are ``Batch.place_id``, the cells of a
  grid: images on two sides of a cell's edge count as different places (``label_losses``,
  and ``place_losses``, which have trained weights for each place).
- Miners choose among an anchor's near and far images, see
  :class:`mlcore_pml.adapter.PmlMiner`; that is one call of PML for each image.

Memory is as PML has it. The losses marked cubic compare every positive pair with every
negative pair (NT-Xent, lifted structure, tuplet margin), or list triplets: a hundred images
are fine, a thousand are not.

Left out, and why:

- Wrappers of other losses (cross-batch memory, multiple losses) and the base classes.
- ``SelfSupervisedLoss``, ``VICRegLoss``: need a second view of every image.
- ``SmoothAPLoss``: needs equally many images of every class in each batch.
- ``InstanceLoss``: takes the number of a class for the number of an image.
- ``ManifoldLoss``: draws its classes at random, and takes none from outside.
- ``DynamicSoftMarginLoss``: keeps a running histogram, so that a batch's loss depends on
  the batches before; likewise ``HDCMiner`` keeps its pairs between calls.
- ``HistogramLoss``: indexes tensors in a way that torch has deprecated, and fails where two
  images have the same embedding.
- ``LargeMarginSoftmaxLoss``, ``SphereFaceLoss``: use the length of embeddings in training
  but not in retrieval; here, embeddings are normalised in both or in neither.
- ``UniformHistogramMiner``: spreads its choice over all pairs of the batch, for which it
  needs class labels.
- ``EmbeddingsAlreadyPackagedAsTriplets``: for batches that consist of triplets.
"""
