"""What runs inside Tunewright's containers: `python -m tunewright_launcher fetch | check | run | train`."""
