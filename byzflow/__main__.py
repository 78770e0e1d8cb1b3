"""The command line as a module: ``python -m byzflow``."""

from __future__ import annotations

import sys

from byzflow.cli import main

if __name__ == "__main__":  # worker processes import this module too
    sys.exit(main())
