"""What the user asked for, checked field by field before anything is created."""
