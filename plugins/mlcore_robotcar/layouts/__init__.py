"""Trees that RobotCar comes in, prepared by mlcore or by third parties."""
