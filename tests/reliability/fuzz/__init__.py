"""Read randomly damaged files: each is read or refused by one line, in time, and nothing is written elsewhere."""
