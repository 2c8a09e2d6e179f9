"""What is known of a job: its state, its failure, its events folded into a summary and a report."""
