"""Reading: from the files of a folder to rows."""
