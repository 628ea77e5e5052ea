"""Prices from a slow database for each who asks, and news for all.

tidegate run examples.fastapi_ticker:app
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI

from tidegate.fastapi import Gate, Member

gate = Gate()


async def tick() -> None:
    hub = await gate.hub()
    while await asyncio.sleep(0.5, True):
        await hub.broadcast(f"{len(hub)} are here")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with gate.lifespan(app):
        ticking = asyncio.create_task(tick())
        yield
        ticking.cancel()


app = FastAPI(lifespan=lifespan)
app.add_middleware(gate.middleware)


@app.websocket("/prices/{item}")
async def prices(item: int, member: Annotated[Member[str, Any], Depends(gate.member())]) -> None:
    async for _ in member:
        await asyncio.sleep(0.2)  # the database; the others do not wait for it
        await member.send({"item": item, "price": 4.2})
