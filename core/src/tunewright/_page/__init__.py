"""The page of jobs: live, as `tunewright ui` serves it, and frozen, as the report of a job. Both are drawn by the files in `assets/`."""
