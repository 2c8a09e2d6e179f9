"""Samples: from rows to token ids and labels, and from samples to batches."""
