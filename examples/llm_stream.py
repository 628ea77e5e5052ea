"""Answers of a language model, token by token: python examples/llm_stream.py 9001

A client sends a question to ws://127.0.0.1:9001/ask and gets a text for each token. Its next
question, "stop" and its end cancel the answer, so that no model works for somebody who has left.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

from tidegate import Connection, Server

BEHIND = 16 * 1024  # bytes that a client may be behind before the model waits for it
server = Server(port=int(sys.argv[1]), per_user=2, per_ip=20, messages_per_second=2)
working = asyncio.Semaphore(100)  # answers at once; the others wait for their turn


async def model(question: str) -> AsyncIterator[str]:
    """Stand in for a client of a model, such as `async for part in client.stream(...)`."""
    for word in f"You asked: {question} {'and so on ' * 1000}".split():
        await asyncio.sleep(0.02)
        yield f"{word} "


async def answer(connection: Connection, question: str) -> None:
    count = 0
    try:
        async with working:
            async for token in model(question):
                while connection.buffered > BEHIND:
                    await asyncio.sleep(0.1)
                connection.send_json({"token": token})
                count += 1
        connection.send_json({"done": count})
    except asyncio.CancelledError:
        print(f"{connection.id}: cancelled after {count} tokens", flush=True)
        raise
    except Exception:
        connection.send_json({"error": "the model has failed"})
        raise


@server.route("/ask")
async def ask(connection: Connection) -> None:
    answering: asyncio.Task[None] | None = None
    try:
        async for question in connection:
            if answering is not None:
                answering.cancel()
            if isinstance(question, str) and question != "stop":
                answering = asyncio.create_task(answer(connection, question))
    finally:  # the client has left, or the server stops
        if answering is not None:
            answering.cancel()


server.run()
