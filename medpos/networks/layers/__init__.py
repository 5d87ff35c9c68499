"""Build networks from shared blocks, and fill them with published weights."""
