"""From rows to batches: files, formats, tokens, labels, packing."""
