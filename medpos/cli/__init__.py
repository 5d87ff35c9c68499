"""Run the commands of ``python -m medpos``, one module per command."""
