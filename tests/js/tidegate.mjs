// The TypeScript client, driven by a test: node tidegate.mjs URL CODEC TOKENS. Commands come as lines of
// JSON, and all events and results go out as lines of JSON.

import { createInterface } from "node:readline";
import WebSocket from "ws";
import { connect, json } from "../../clients/js/dist/index.js";
import { msgpack } from "../../clients/js/dist/msgpack.js";

const [url, codec, tokens] = process.argv.slice(2);
const left = JSON.parse(tokens);
const say = (event, of) => console.log(JSON.stringify({ event, of }));

let socket;
class Watched extends WebSocket {
  constructor(...args) {
    super(...args);
    socket = this;
  }
}

const client = connect(url, {
  WebSocket: Watched,
  codec: codec === "msgpack" ? msgpack : json,
  ...(left && { token: () => left.shift() ?? null }),
});
for (const kind of ["state", "connected", "waiting", "direct", "broadcast", "shutdown", "error"])
  client.on(kind, (event) => say(kind, event));

const watched = new Set();
function room(name) {
  const found = client.room(name);
  if (!watched.has(name))
    for (const kind of ["message", "joined", "left", "gap"])
      found.on(kind, (event) => say(kind, { ...event, room: name }));
  watched.add(name);
  return found;
}

const actions = {
  join: (name, options) => room(name).join(options),
  publish: (name, data, options) => room(name).publish(data, options),
  history: (name, limit) => room(name).history({ limit }),
  direct: (user, data) => client.direct(user, data),
  ping: () => client.ping(),
  close: () => client.close(),
  // The line breaks: no close frame is sent.
  cut: () => socket._socket.destroy(),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { what, args, name } = JSON.parse(line);
  Promise.resolve()
    .then(() => actions[what](...args))
    .then(
      (value) => say(name, { value }),
      (error) => say(name, { error: String(error), code: error.code }),
    );
}
