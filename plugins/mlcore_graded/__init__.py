"""Graded losses: how near two images are decides how alike they should be.

The newer rivals of the proposed loss. One file per family; formulas are those of the papers
that each factory names, in this notation: anchor i; cosine similarity s and Euclidean
distance D of unit embeddings; geometric distance d in metres; influence w of d; sums leave
out the anchor itself.
"""
