"""Valkey and Redis between nodes."""
