"""What the conformance kit asks of a loss, a module per kind of question."""
