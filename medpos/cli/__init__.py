"""Run the commands of ``python -m medpos``, one module a command."""
