"""Trees that RobotCar comes in, prepared by mlcore or by others."""
