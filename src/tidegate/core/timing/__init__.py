"""What happens when: deadlines, heartbeat, rates, the schedule of a drain."""
