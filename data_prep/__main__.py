"""Run the command line: ``python -m data_prep COMMAND``; ``--help`` lists the commands."""

from data_prep.cli.main import app, main

__all__ = ["app", "main"]

if __name__ == "__main__":
    main()
