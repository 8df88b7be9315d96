"""The miners by geometry and the losses that the paper compares with.

One file a loss. The formulas are those of the papers each factory names, in the notation
``D(x, y) = |x - y|^2`` for the squared distance of two embeddings, anchor ``a``, near
images ``p``, far images ``n``, and one further far image ``n*`` of the same tuple.
"""
