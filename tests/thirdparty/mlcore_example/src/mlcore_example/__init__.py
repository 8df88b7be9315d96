"""One component of each kind for mlcore."""
