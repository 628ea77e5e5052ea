// Many TypeScript clients, cut off at once: node storm.mjs URL COUNT. It says when all are connected; on a
// line of input it cuts them all, and says what came of it when all are back or have given up.

import { createInterface } from "node:readline";
import WebSocket from "ws";
import { connect } from "../../clients/js/dist/index.js";

const [url, count] = process.argv.slice(2);
const TICK = 0.002; // seconds by which a timer may go off early: it counts whole milliseconds
const now = () => performance.now() / 1000;

const sockets = new Set();
const open = new Set();
let early = 0;
let closed = 0;
let lost = 0;
let changed = () => {};

function begin() {
  let due = 0;
  // What the server says is read here once more, so that the client does not judge itself.
  class Timed extends WebSocket {
    constructor(...args) {
      super(...args);
      if (now() < due - TICK) early += 1;
      sockets.add(this);
      this.on("close", (_, reason) => {
        sockets.delete(this);
        try { due = now() + (JSON.parse(reason).retryAfter ?? 0); } catch { due = 0; }
      });
    }
  }
  const client = connect(url, { WebSocket: Timed });
  client.on("state", ({ state, previous, delay }) => {
    if (state === "open") open.add(client);
    else if (open.delete(client)) lost += 1;
    if (state === "closed") closed += 1;
    if (state === "backoff" && !(delay > 0)) early += 1;
    changed();
  });
  return client;
}

const until = (holds) => new Promise((resolve) => {
  changed = () => { if (holds()) resolve(); };
  changed();
});

const clients = Array.from({ length: Number(count) }, begin);
const all = () => open.size + closed === clients.length;
await until(all);
console.log("ready");
for await (const _ of createInterface({ input: process.stdin })) {
  const start = now();
  for (const socket of sockets) socket._socket.destroy(); // the line breaks: no close frame is sent
  await until(() => lost + closed >= clients.length && all());
  console.log(JSON.stringify({ seconds: now() - start, early, givenUp: closed }));
}
for (const client of clients) client.close();
