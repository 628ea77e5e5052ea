"""One node: the gate, the hub and the dispatch of messages."""
