"""A FastAPI application with what such applications do over HTTP."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import BackgroundTasks, FastAPI, HTTPException, Request, Response, UploadFile
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from fastapi.websockets import WebSocket
from pydantic import BaseModel

__all__ = ["BLOCK", "app"]

HERE = Path(__file__)
BLOCK = bytes(range(256)) * 256  # 64 KiB

TOLD = ("client", "scheme", "server")

app = FastAPI()
app.mount("/static", StaticFiles(directory=HERE.parent))
_record: dict[str, Any] = {"background": [], "ended": [], "sent": 0}


class Item(BaseModel):
    name: str
    price: float


@app.api_route("/", methods=["GET", "HEAD"])
async def home() -> dict[str, str]:
    return {"hello": "world"}


@app.get("/record")
async def record() -> dict[str, Any]:
    return _record


@app.get("/items/{number}")
async def item(number: int, q: str | None = None) -> dict[str, Any]:
    return {"number": number, "q": q}


@app.post("/items", status_code=201)
async def make(item: Item, response: Response) -> Item:
    response.headers["Location"] = f"/items/{item.name}"
    return item


@app.get("/scope")
async def scope(request: Request) -> dict[str, Any]:
    names = ("type", "http_version", "method", "path", "root_path")
    return {
        **{name: request.scope[name] for name in (*names, *TOLD)},
        "raw_path": request.scope["raw_path"].decode(),
        "query": request.scope["query_string"].decode(),
        "headers": [
            (name.decode(), value.decode("latin-1")) for name, value in request.headers.raw
        ],
    }


@app.get("/cookies")
async def cookies(response: Response) -> None:
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")


@app.get("/wait/{seconds}")
async def wait(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return str(seconds)


@app.get("/sync")
def sync() -> str:
    """It runs in a thread."""
    return "sync"


@app.get("/empty", status_code=204)
async def empty() -> None:
    return None


@app.get("/file")
async def file() -> FileResponse:
    return FileResponse(HERE, filename="app.py")


@app.post("/upload")
async def upload(file: UploadFile) -> dict[str, Any]:
    digest = hashlib.sha256()
    while data := await file.read(1 << 20):
        digest.update(data)
    return {"name": file.filename, "size": file.size, "sha256": digest.hexdigest()}


@app.put("/raw")
async def raw(request: Request) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    async for data in request.stream():
        digest.update(data)
        size += len(data)
        if request.headers.get("x-slow"):
            await asyncio.sleep(0.001)
    return {"size": size, "sha256": digest.hexdigest()}


@app.put("/unread")
async def unread(request: Request) -> None:
    raise HTTPException(413)


@app.get("/stream/{count}")
async def stream(count: int, pause: float = 0.0) -> StreamingResponse:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(count):
            yield b"%d\n" % number
            await asyncio.sleep(pause)

    return StreamingResponse(pieces())


@app.get("/large/{blocks}")
async def large(blocks: int, name: str = "") -> StreamingResponse:
    async def pieces() -> AsyncIterator[bytes]:
        try:
            for number in range(blocks):
                yield BLOCK
                _record["sent"] = number + 1
        finally:
            _record["ended"].append(name)

    length = {"Content-Length": str(blocks * len(BLOCK))}
    return StreamingResponse(pieces(), headers=length)


@app.get("/endless")
async def endless(name: str) -> StreamingResponse:
    async def pieces() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"more "
                await asyncio.sleep(0.01)
        finally:
            _record["ended"].append(name)

    return StreamingResponse(pieces())


@app.get("/events")
async def events() -> StreamingResponse:
    async def pieces() -> AsyncIterator[str]:
        for number in range(3):
            yield f"id: {number}\ndata: event {number}\n\n"
            await asyncio.sleep(0.05)

    return StreamingResponse(
        pieces(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"}
    )


@app.get("/background")
async def background(tasks: BackgroundTasks, name: str) -> str:
    async def work() -> None:
        await asyncio.sleep(0.2)
        _record["background"].append(name)

    tasks.add_task(work)
    return "accepted"


@app.get("/raises")
async def raises() -> None:
    raise ValueError("of the application")


@app.get("/raises-late")
async def raises_late() -> StreamingResponse:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"a beginning"
        await asyncio.sleep(0.05)
        raise ValueError("of the stream")

    return StreamingResponse(pieces())


@app.websocket("/told")
async def told(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_json({name: websocket.scope[name] for name in TOLD})


@app.websocket("/ws")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)
