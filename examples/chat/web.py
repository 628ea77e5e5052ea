# web.py
import json
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import jwt

SECRET = "a secret of 32 bytes or more, please"  # auth.secret of chat.toml


def token_for(user: str) -> str:
    claims = {"sub": user, "exp": time.time() + 900, "info": {"name": user.title()}}
    return jwt.encode(claims, SECRET)


class Web(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path != "/token":
            super().do_GET()
            return
        # Your login comes here. This one believes everybody.
        user = parse_qs(url.query).get("user", ["guest"])[0]
        body = json.dumps({"url": "ws://127.0.0.1:8000/ws", "token": token_for(user)}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", 9000), Web).serve_forever()
