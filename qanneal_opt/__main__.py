"""``python -m qanneal_opt`` is the command ``qanneal-opt``."""

import sys

from qanneal_opt.cli import main

if __name__ == "__main__":
    sys.exit(main())
