"""Sockets: one poller holds every connection."""
