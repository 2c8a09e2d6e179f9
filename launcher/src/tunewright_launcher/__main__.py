"""`python -m tunewright_launcher`."""

import logging
import os
import sys

from tunewright_launcher.cli import main


def _log_to_stderr() -> None:
    """Show what we and plugins tell, once for all ranks; of other libraries, what they warn of."""
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: record.levelno >= logging.WARNING or record.name.startswith("tunewright"))
    level = logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING
    logging.basicConfig(level=level, format="%(name)s: %(message)s", handlers=[handler])


if __name__ == "__main__":
    _log_to_stderr()
    sys.exit(main(sys.argv[1:]))
