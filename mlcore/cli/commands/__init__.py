"""One module per command, which reads the options, calls the engine and prints."""
