"""Rows: what their columns say."""
