"""Templates: from conversations to the model's own text, and which of it is supervised."""
