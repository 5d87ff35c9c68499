"""Run the command line: ``python -m medpos``."""

from medpos.cli.main import app, main
from medpos.cli.project import BUNDLES

__all__ = ["BUNDLES", "app", "main"]

if __name__ == "__main__":
    main()
