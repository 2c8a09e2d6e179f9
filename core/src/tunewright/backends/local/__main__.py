"""`python -m tunewright.backends.local FOLDER`: the supervisor of the job in FOLDER. The backend starts it."""

import sys
from pathlib import Path

from tunewright.backends.local.supervisor import supervise

if __name__ == "__main__":
    sys.exit(supervise(Path(sys.argv[1])))
