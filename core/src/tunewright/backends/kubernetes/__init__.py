"""What every kind of job on Kubernetes shares."""
