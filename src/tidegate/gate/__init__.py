"""The decision about an attempt, as a value: identity, limits, waiting. No engine, no bytes."""
