"""The processes that the conformance kit starts: they run a plugin as a pod does, and have no pytest."""
