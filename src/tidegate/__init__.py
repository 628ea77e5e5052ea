"""Tidegate: the connection gate for WebSockets."""
