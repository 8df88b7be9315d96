"""The plan of the town and the routes through it."""
