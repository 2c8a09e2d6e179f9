"""What is known about a job: its state, its failure, and its events folded into a summary and a report."""
