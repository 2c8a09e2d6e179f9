"""`python -m tunewright.backends.local FOLDER`: supervise the job in FOLDER. The backend starts this process."""

import sys
from pathlib import Path

from tunewright.backends.local.supervisor import supervise

if __name__ == "__main__":
    sys.exit(supervise(Path(sys.argv[1])))
