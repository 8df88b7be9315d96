"""What a camera sees: rays, surfaces, light and weather."""
