"""NATS between nodes: core subjects carry what they say, JetStream keeps what they write down."""
