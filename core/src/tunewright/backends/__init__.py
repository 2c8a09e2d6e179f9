"""Backends: what runs a plan. Each is a plugin; `TrainingClient(backend="<name>")` selects one by name."""

from __future__ import annotations
