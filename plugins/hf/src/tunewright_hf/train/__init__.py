"""The training run: arguments, Trainer, checkpoints, events and result."""
