"""The gate in front of a Socket.IO server (python-socketio).

sio = socketio.AsyncServer(async_mode="asgi")
gate = guard(sio, per_ip=20, per_user=5)
app = socketio.ASGIApp(sio)
"""

from __future__ import annotations

try:
    import socketio  # noqa: F401 - asked for here, so that the error names what to install
except ModuleNotFoundError as error:
    if error.name != "socketio":
        raise
    raise ImportError(
        "tidegate.socketio needs python-socketio: pip install 'tidegate[socketio]'"
    ) from error

from tidegate.core.admission.attempt import Identity
from tidegate.errors import Refused
from tidegate.socketio.gate import Gate, Who, guard

__all__ = ["Gate", "Identity", "Refused", "Who", "guard"]
