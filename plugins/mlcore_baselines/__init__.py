"""The miners by geometry and the losses that the paper compares with.

One file per family of losses. Formulas are those of the papers that each factory names, with
the squared distance ``D(x, y) = |x - y|^2`` of two embeddings, anchor ``a``, near images
``p``, far images ``n``, and one further far image ``n*`` of the same tuple.
"""
