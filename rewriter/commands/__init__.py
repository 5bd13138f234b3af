"""One command, from file to file."""
