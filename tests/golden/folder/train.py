"""A script with modules of its own."""

from steps.hello import hello

hello()
