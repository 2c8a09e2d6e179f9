"""The plugins that come with core. They use the same entry points and hooks as any other plugin."""

from __future__ import annotations
