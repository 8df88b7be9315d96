"""Oxford RobotCar as a data set, from the download or from what ``prepare`` made of it.

Importing this package imports neither torch, numpy nor OpenCV; what it exports is loaded
when first used.
"""

from __future__ import annotations
