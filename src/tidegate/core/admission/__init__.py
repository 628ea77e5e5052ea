"""What is admitted: limits and their leases, pacing, the breaker, pressure, the waiting room."""
