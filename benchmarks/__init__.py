"""Benchmarks: what is promised of speed, measured. Each is run as `python -m benchmarks.NAME`; no test runs them."""
