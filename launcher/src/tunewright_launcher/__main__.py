"""`python -m tunewright_launcher`."""

import sys

from tunewright_launcher.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
