"""Load a model: configuration, weights, adapter, attention."""
