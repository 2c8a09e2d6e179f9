"""Loading a model: configuration, weights, adapters, attention."""
