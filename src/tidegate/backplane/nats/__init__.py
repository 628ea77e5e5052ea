"""NATS between nodes: core subjects carry messages, JetStream keeps the histories of rooms."""
