"""Any data set written in the form of RobotCar's download."""
