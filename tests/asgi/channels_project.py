"""A Django project with Channels in one file: the chat of its tutorial, as a sync and as an async consumer."""

from __future__ import annotations

import json
from typing import Any

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "channels"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of the tests",
    USE_TZ=True,
)
django.setup()

from asgiref.sync import async_to_sync  # noqa: E402
from channels.db import database_sync_to_async  # noqa: E402
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse  # noqa: E402
from django.urls import path, re_path  # noqa: E402


class SyncChat(WebsocketConsumer):  # type: ignore[misc]
    """The chat of the tutorial's second part; its methods run in threads."""

    def connect(self) -> None:
        self.group = f"chat_{self.scope['url_route']['kwargs']['room']}"
        async_to_sync(self.channel_layer.group_add)(self.group, self.channel_name)
        self.accept()

    def disconnect(self, code: int) -> None:
        async_to_sync(self.channel_layer.group_discard)(self.group, self.channel_name)
        async_to_sync(self.channel_layer.group_send)(self.group, {"type": "chat.message", "message": f"left {code}"})

    def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
        message = json.loads(text_data)["message"]
        async_to_sync(self.channel_layer.group_send)(self.group, {"type": "chat.message", "message": message})

    def chat_message(self, event: Any) -> None:
        self.send(text_data=json.dumps({"message": event["message"]}))


class AsyncChat(AsyncWebsocketConsumer):  # type: ignore[misc]
    """The chat of the tutorial's third part, which asks the database too."""

    async def connect(self) -> None:
        self.group = f"chat_{self.scope['url_route']['kwargs']['room']}"
        if self.group == "chat_closed":
            await self.close()
            return
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.group, self.channel_name)
        await self.channel_layer.group_send(self.group, {"type": "chat.message", "message": f"left {code}"})

    async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
        if bytes_data is not None:
            await self.send(bytes_data=bytes_data)
            return
        message = json.loads(text_data)["message"]
        if message == "bye":
            await self.close(4000, "as you wish")
            return
        if message == "users":
            message = await database_sync_to_async(User._meta.get_field)("username")
            message = message.name
        await self.channel_layer.group_send(self.group, {"type": "chat.message", "message": message})

    async def chat_message(self, event: Any) -> None:
        await self.send(text_data=json.dumps({"message": event["message"]}))


def index(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{request.method} {request.GET.get('q')} {request.body.decode()}")


def stream(request: HttpRequest) -> StreamingHttpResponse:
    async def lines() -> Any:
        for number in range(3):
            yield f"{number};"

    return StreamingHttpResponse(lines())


urlpatterns = [path("", index), path("stream", stream)]

application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": AllowedHostsOriginValidator(
            URLRouter(
                [
                    re_path(r"ws/sync/(?P<room>\w+)/$", SyncChat.as_asgi()),
                    re_path(r"ws/async/(?P<room>\w+)/$", AsyncChat.as_asgi()),
                ]
            )
        ),
    }
)

if __name__ == "__main__":
    from ferrows.asgi import serve_asgi

    serve_asgi(application, port=0)
