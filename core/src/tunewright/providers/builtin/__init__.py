"""The plugins that come with core. They use the same entry points and hooks as any other."""

from __future__ import annotations
