"""Where positions come from: tables, file names, EXIF, and the layouts that benchmarks use."""
