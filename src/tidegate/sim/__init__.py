"""The fleet simulator: the gate on a virtual clock."""
