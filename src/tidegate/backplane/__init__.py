"""What carries messages between nodes. `memory` is the backplane of a single node."""
