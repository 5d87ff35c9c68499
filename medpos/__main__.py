"""Run the command line: ``python -m medpos``."""

from medpos.cli.bundles import BUNDLES
from medpos.cli.main import app, main

__all__ = ["BUNDLES", "app", "main"]

if __name__ == "__main__":
    main()
