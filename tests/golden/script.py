"""A user's script, for the golden manifests."""

print("hello")
