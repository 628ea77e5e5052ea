// The npm `ws` peer: echo on any path, broadcast on /fan, 401 on /refuse.
//
//     node --expose-gc ws.mjs PORT

import { createRequire } from "node:module";

// Installed in bench/build, which is not above this file.
const { WebSocket, WebSocketServer } = createRequire(
  new URL("../build/package.json", import.meta.url),
)("ws");

const members = new Set();

function echo(data, isBinary) {
  this.send(data, { binary: isBinary });
}

function broadcast(data, isBinary) {
  for (const member of members) {
    if (member.readyState === WebSocket.OPEN) member.send(data, { binary: isBinary });
  }
}

function leave() {
  members.delete(this);
}

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: Number(process.argv[2]),
  backlog: 4096,
  perMessageDeflate: false,
  verifyClient: ({ req }) => req.url !== "/refuse",
});

server.on("connection", (socket, request) => {
  socket.on("error", () => {});
  if (request.url === "/fan") {
    members.add(socket);
    socket.on("message", broadcast);
    socket.on("close", leave);
  } else {
    socket.on("message", echo);
  }
});

// Memory is compared after a collection.
process.on("SIGUSR2", () => globalThis.gc?.());
