"""A training from its inputs to its result."""
