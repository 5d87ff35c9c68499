"""Build networks from shared blocks, load published weights, and fold or freeze batch norm statistics."""
