"""`python -m cloaca`: the command line."""

import sys

from cloaca._cli import main

if __name__ == "__main__":
    sys.exit(main())
