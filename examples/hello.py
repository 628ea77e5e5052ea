"""Greet everybody who connects: python examples/hello.py, then open ws://127.0.0.1:8000/hello/ann"""

import os

from tidegate import Connection, Server

server = Server(port=int(os.environ.get("PORT", "8000")), per_ip=20)


@server.route("/hello/{name}")
async def hello(connection: Connection, name: str) -> None:
    connection.send(f"hello, {name}")
    async for message in connection:
        connection.send(f"{name} said: {message!r}")


if __name__ == "__main__":
    server.run()
