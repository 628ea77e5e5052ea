"""Kafka as the backplane."""
