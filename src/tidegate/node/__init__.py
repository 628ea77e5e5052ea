"""One node: the gate, the users and the dispatch of messages."""
