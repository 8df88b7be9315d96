"""What the published download holds: tars, folders, tables and poses."""
