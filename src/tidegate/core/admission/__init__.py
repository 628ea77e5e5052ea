"""Who gets in: limits and their leases, pace, breaker, pressure, waiting room."""
