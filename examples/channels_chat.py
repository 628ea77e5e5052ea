"""A Django Channels chat: groups, HTTP views beside it, and the gate in front.

tidegate run examples.channels_chat:app --set limits.per_ip=20
"""

from typing import Any

import django
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

if not settings.configured:  # a project has these in its settings.py
    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1", "localhost"],
        CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
        ROOT_URLCONF=__name__,
        SECRET_KEY="only-for-this-example",
    )
    django.setup()


class Chat(AsyncJsonWebsocketConsumer):
    async def connect(self) -> None:
        scope: Any = self.scope
        self.group = f"chat-{scope['url_route']['kwargs']['room']}"
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.group, self.channel_name)

    async def receive_json(self, content: Any, **_: Any) -> None:
        text = str(content.get("text", ""))[:500] if isinstance(content, dict) else ""
        await self.channel_layer.group_send(self.group, {"type": "chat.said", "text": text})

    async def chat_said(self, event: dict[str, str]) -> None:
        await self.send_json({"text": event["text"]})


def home(_request: HttpRequest) -> HttpResponse:
    return HttpResponse(b"Open a WebSocket at /chat/ROOM/.")


urlpatterns = [path("", home)]
rooms: Any = [path("chat/<slug:room>/", Chat.as_asgi())]
app = ProtocolTypeRouter({"http": get_asgi_application(), "websocket": URLRouter(rooms)})
