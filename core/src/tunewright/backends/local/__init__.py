"""The `local` backend: run the same plan on this machine, as processes that share a folder in place of the volume.

Its plugin is the module `backend`. Nothing is imported here, since each job's supervisor starts with this package.
"""
