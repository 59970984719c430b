"""Prints the documentation page of all features: `python -m udfs.features [MODULE ...]`."""

import sys

from udfs.features.page import page
from udfs.features.registry import load_modules

if __name__ == "__main__":
    load_modules(sys.argv[1:])
    sys.stdout.write(page())
