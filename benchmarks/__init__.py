"""Benchmarks of mlcore: ``python -m benchmarks`` lists them with their last results.

Each module here is one benchmark: the first line of its docstring is its purpose,
``DURATION`` says how long it takes, in words, and ``main(argv)`` runs it.
"""
