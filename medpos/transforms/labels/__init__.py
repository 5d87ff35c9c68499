"""Change label maps and weigh their pixels."""
