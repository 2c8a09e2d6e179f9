"""Mixing: the order in which several datasets take turns."""
