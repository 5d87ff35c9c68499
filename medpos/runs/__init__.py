"""Manage run folders: their files and names, checkpoints, tables, segmented cases and environment."""

from medpos.runs.folder import RunFolder

__all__ = ["RunFolder"]
