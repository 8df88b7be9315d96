"""Graded losses: similarity should follow the distance between two images.

Recent alternatives to the proposed loss. One file per family; formulas are those of the papers
that each factory names, in this notation: anchor i; cosine similarity s and Euclidean distance
D of unit embeddings; geometric distance d in metres; influence w of d; sums leave out the
anchor itself.
"""
