"""Bytes to values and back: the WebSocket protocol and the native messages, without I/O."""
