"""One module for each command: reads its options, calls the engine, prints."""
