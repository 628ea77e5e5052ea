// The protocol with the package `ws` alone: join, publish, history, wait, resume.
//
//     npm install ws
//     node client_ws.mjs ws://127.0.0.1:8000/ws lobby
//
// It says what comes, publishes each line that you type, and comes back when the server wants it to. A
// token goes into the environment, as TIDEGATE_TOKEN. The package `tidegate` does all that for you.

import { createInterface } from "node:readline";
import WebSocket from "ws";

const [url, room] = process.argv.slice(2);
const STABLE = 10_000; // milliseconds after which a connection counts as good
const GIVE_UP = [1000, 1002, 1007, 1008, 1009]; // and all from 4500 on: docs/protocol.md, "Close codes"

let socket;
let session;
let seq = 0; // of the last direct message
let position; // of the last message of the room
let slot; // when the server wants to have us back, in milliseconds
let failures = 0;

// A random part, longer with each failure, so that clients come back spread out.
const jitter = () => Math.max(0.1, Math.random() * Math.min(30, 2 ** failures));

function stop(error) {
  console.log(`! not again: ${error}`);
  process.exit(0);
}

// Seconds until the next attempt. A slot is this client's own; any other delay is that of many.
function delayOf(error, given) {
  console.log(`! ${error}`);
  return ["rate_limited", "drained"].includes(error) ? Math.max(0.1, given) : given + jitter();
}

function afterClose(code, text) {
  let said = {};
  try { said = JSON.parse(text) ?? {}; } catch { /* no reason, or another's */ }
  const error = said.error ?? `closed with ${code}`;
  if (GIVE_UP.includes(code) || code >= 4500 || said.retryAfter === null) stop(error);
  return delayOf(error, said.retryAfter ?? (code === 1006 ? 0 : 5));
}

// By an HTTP status, of the server or of a proxy before it.
function afterRefusal({ statusCode, headers }) {
  const error = headers["x-rejection-reason"] ?? `HTTP ${statusCode}`;
  if (statusCode < 500 && ![408, 429].includes(statusCode)) stop(error);
  return delayOf(error, Number.parseFloat(headers["retry-after"] ?? "5"));
}

function send(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
  else console.log("! not connected");
}

// With a position the server sends what was missed, and what is in the history else.
const join = () => send({ type: "join", room, history: 10, since: position, id: "join" });

const RECEIVE = {
  queue_status: ({ position, totalInQueue }) => console.log(`* waiting: ${position} of ${totalInQueue}`),
  connected(message) {
    session = message.session;
    if (!message.resumed) seq = 0;
    console.log(message.resumed ? "* connected, resumed" : "* connected");
    join();
  },
  ack({ id, epoch, offset, recovered }) {
    if (id !== "join") return;
    if (recovered === false) console.log("* messages were missed");
    if (epoch && !(position && recovered)) position = { epoch, offset };
    console.log("* joined");
  },
  room_message({ from, data, offset }) {
    if (position && offset) position.offset = Math.max(position.offset, offset);
    console.log(`${from ?? "anonymous"}: ${data}`);
  },
  direct_message(message) {
    seq = message.seq ?? seq;
    console.log(`${message.from}, to you: ${message.data}`);
  },
  server_shutdown: ({ reconnectDelay }) => { slot = Date.now() + reconnectDelay * 1000; },
  gap: () => join(),
  error: ({ code, message }) => console.log(`! ${code}: ${message}`),
};

function connect() {
  const offered = ["tidegate.v1.json"];
  if (process.env.TIDEGATE_TOKEN) offered.push(`tidegate.token.${process.env.TIDEGATE_TOKEN}`);
  if (session) offered.push(`tidegate.session.${session}.${seq}`);
  const began = Date.now();
  let over = false;
  const again = (seconds) => {
    if (over) return;
    over = true;
    if (Date.now() - began > STABLE) failures = 0;
    failures += 1;
    const delay = Math.max(seconds, slot ? (slot - Date.now()) / 1000 : 0);
    slot = undefined;
    console.log(`! again in ${delay.toFixed(1)} s`);
    setTimeout(connect, delay * 1000);
  };
  socket = new WebSocket(url, offered);
  socket.on("message", (text) => {
    const message = JSON.parse(text);
    if (Object.hasOwn(RECEIVE, message.type)) RECEIVE[message.type](message);
  });
  socket.on("unexpected-response", (_, response) => again(afterRefusal(response)));
  socket.on("close", (code, text) => over || again(afterClose(code, text)));
  socket.on("error", (error) => console.log(`! ${error.message}`)); // "close" follows
}

createInterface({ input: process.stdin }).on("line", (data) => send({ type: "room_message", room, data }));
connect();
