"""Tidegate as a library: `Server` with your handlers, and the `Connection` they get."""
