"""ASGI applications on the engine: WebSockets behind the gate, HTTP by uvicorn's protocol."""
