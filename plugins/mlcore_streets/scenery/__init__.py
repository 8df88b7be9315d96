"""What stands in the town: houses, ground, furniture, vehicles."""
