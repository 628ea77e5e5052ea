"""Consumers that publish to rooms what other systems write to topics."""
