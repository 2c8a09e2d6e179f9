"""What the user configures: the trainer, its data, and the arguments of transformers and PEFT."""
