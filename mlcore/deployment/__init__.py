"""A trained model where it is used: maps to localize in, and exports to other programs."""
