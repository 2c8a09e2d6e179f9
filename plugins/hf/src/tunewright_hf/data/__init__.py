"""Data: from files and rows to samples and batches."""
