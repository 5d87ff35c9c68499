"""Define the command line, the commands grouped by the kind of data they read."""
