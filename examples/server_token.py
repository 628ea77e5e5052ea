"""Log in for a token, and connect with it: python examples/server_token.py 9001

Open http://127.0.0.1:9001/ and log in as ann with the password "tea". The page gets a token for
fifteen minutes, and offers it as a subprotocol: a page can set no header, and logs show no URL of
it. With TLS in front, please.
"""

from __future__ import annotations

import base64
import json
import secrets
import sys
import time

import jwt

from tidegate import Connection, Request, Server, http_response

PASSWORDS = {"ann": "tea", "bob": "coffee"}  # yours are in a database, as hashes
SECRET = secrets.token_urlsafe(32)  # yours is in the environment: TIDEGATE_AUTH_SECRET
PAGE = """<!doctype html>
<title>Log in</title>
<form id="login"><label>Name <input id="who"></label>
<label>Password <input id="password" type="password"></label> <button>Log in</button></form>
<p id="said" aria-live="polite"></p>
<script>
login.onsubmit = async (event) => {
  event.preventDefault();
  const text = new TextEncoder().encode(`${who.value}:${password.value}`);
  const Authorization = `Basic ${btoa(String.fromCharCode(...text))}`;
  const response = await fetch("/login", {headers: {Authorization}});
  const {token, error} = await response.json();
  if (error) return void (said.textContent = error);
  const ws = new WebSocket(`ws://${location.host}/hi`, ["tidegate.v1", `tidegate.token.${token}`]);
  ws.onmessage = ({data}) => { said.textContent = data; };
  ws.onclose = ({code, reason}) => { said.textContent = `closed: ${code} ${reason}`; };
};
</script>
"""

server = Server({"auth": {"secret": SECRET, "anonymous": False}}, port=int(sys.argv[1]), per_user=2)


@server.http
def pages(request: Request) -> bytes | None:
    if request.path == "/":
        return http_response(200, PAGE.encode(), content_type="text/html; charset=utf-8")
    if request.path != "/login":
        return None
    user = logged_in(request.headers.get("authorization", ""))
    if user is None:
        return http_response(401, b'{"error": "wrong name or password"}')
    claims = {"sub": user, "exp": time.time() + 15 * 60}
    return http_response(200, json.dumps({"token": jwt.encode(claims, SECRET)}).encode())


def logged_in(authorization: str) -> str | None:
    try:
        credentials = base64.b64decode(authorization.removeprefix("Basic "), validate=True).decode()
    except ValueError:
        return None
    user, _, password = credentials.partition(":")
    wanted = PASSWORDS.get(user, "")
    right = secrets.compare_digest(password.encode(), wanted.encode())
    return user if wanted and right else None


@server.route("/hi")
async def hi(connection: Connection) -> None:
    devices = len(server.user(connection.user or ""))
    server.user(connection.user or "").send(f"hello, {connection.user}, on {devices} devices")
    await connection.wait_closed()


server.run()
