"""Traces with OpenTelemetry: a span for each attempt and each publication, where they are on.

The parts of a node that are traced are subclasses, and a node that traces nothing has none of
them: off, traces cost nothing.
"""
