"""Compare models over cases, subjects and seeds, and decide on the criteria of a study."""
