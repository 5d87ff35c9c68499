"""Change label maps and compute weights of their pixels."""
