"""pluggy's markers, and the names of the project, its api version and its entry-point group."""

from __future__ import annotations

import pluggy

PROJECT = "tunewright"
API = 1
GROUP = f"tunewright.v{API}"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
