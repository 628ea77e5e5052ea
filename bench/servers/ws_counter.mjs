// The npm `ws` peer behind the counter that many write: so many accepts in each second of the clock,
// and "try again in a second" for all others. It echoes on any path.
//
//     node ws_counter.mjs PORT RATE

import { createRequire } from "node:module";

// Installed in bench/build, which is not above this file.
const { WebSocketServer } = createRequire(new URL("../build/package.json", import.meta.url))("ws");

const rate = Number(process.argv[3]);
let second = 0;
let accepted = 0;

function verifyClient(_info, done) {
  const now = Math.floor(Date.now() / 1000);
  if (now !== second) {
    second = now;
    accepted = 0;
  }
  if (accepted < rate) {
    accepted += 1;
    done(true);
  } else {
    done(false, 503, "Service Unavailable", { "Retry-After": "1" });
  }
}

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: Number(process.argv[2]),
  backlog: 4096,
  perMessageDeflate: false,
  verifyClient,
});

server.on("connection", (socket) => {
  socket.on("error", () => {});
  socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
});
