"""The networks that mlcore ships: backbones, poolings, and the pairs that have a name."""
