"""How connections are spread over the nodes of a fleet."""
