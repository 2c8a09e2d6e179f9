"""Views of a job: bars in a terminal, a notebook, JSON lines, a page."""
