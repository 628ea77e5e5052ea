"""What pressure is on this machine, and what a zone does to a node."""
