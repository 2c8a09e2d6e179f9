"""When the holder of a lease counts as gone. The launcher keeps leases; whoever lists a cache only looks at them.

This module is not part of the one file that is shipped to images.
"""

from __future__ import annotations

import time
from pathlib import Path

BEAT_EVERY = 2.0
STALE_AFTER = 20.0


def is_kept(file: Path) -> bool:
    """Return whether a lease was renewed within the last seconds."""
    try:
        return time.time() - file.stat().st_mtime < STALE_AFTER
    except FileNotFoundError:  # returned just now
        return False
