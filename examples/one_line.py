"""Your application on uvicorn, behind the gate in one line: the last one.

uvicorn examples.one_line:app
"""

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from tidegate.asgi import GateMiddleware


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


yours = Starlette(routes=[WebSocketRoute("/echo", echo)])
app = GateMiddleware(yours, {"limits": {"per_ip": 20}, "messages": {"per_second": 5}})
