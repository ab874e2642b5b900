"""`python -m mageflow.cli`, the same as the `mageflow` command."""

from mageflow.cli import main

if __name__ == "__main__":
    main()
