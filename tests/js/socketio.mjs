// Scenes that a test plays with the official client of Socket.IO: node socketio.mjs SCENE URL.
// Prints one JSON value; fails when a scene is not over in 20 seconds.

import { once } from "node:events";
import { io, Manager } from "socket.io-client";

const [scene, url, more] = process.argv.slice(2);
const options = { transports: ["websocket"], reconnection: false, forceNew: true };
Object.assign(options, JSON.parse(more ?? "{}"));
setTimeout(() => fail(new Error(`${scene} is not over`)), 20_000).unref();

function fail(error) {
  console.error(error);
  process.exit(1);
}

// What became of an attempt: the socket, or what it was told.
function attempt(auth, path = "/", own = {}) {
  const socket = io(url + path, { ...options, auth, ...own });
  return new Promise((resolve) => {
    socket.once("connect", () => resolve({ socket }));
    socket.once("connect_error", (error) =>
      resolve({ message: error.message, data: error.data, active: socket.active }),
    );
  });
}

async function connected(auth, path, own) {
  const { socket, ...refused } = await attempt(auth, path, own);
  if (!socket) throw new Error(JSON.stringify(refused));
  return socket;
}

const after = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const stats = async () => (await fetch(`${url}/stats`)).json();

async function until(holds) {
  for (;;) {
    const now = await stats();
    if (holds(now)) return now;
    await after(20);
  }
}

const scenes = {
  // Two devices of one user, the third is refused, and its turn comes when one leaves.
  async limits() {
    const first = await connected({ user: "ann" });
    const second = await connected({ user: "ann" });
    const refused = await attempt({ user: "ann" });
    const other = await connected({ user: "ben" });
    const between = await until(({ sessions }) => sessions === 3);
    first.disconnect();
    await until(({ users }) => users.ann === 1);
    const third = await connected({ user: "ann" });
    for (const socket of [second, third, other]) socket.disconnect();
    return { refused, between, after: await until(({ open }) => open === 0) };
  },

  // One attempt, and what it is told.
  async attempt() {
    const before = await stats();
    const { socket, ...refused } = await attempt(options.auth);
    socket?.disconnect();
    return { ...refused, after: await until(({ sessions }) => sessions === before.sessions) };
  },

  // Rooms, acknowledgements, broadcasts and binary attachments.
  async rooms() {
    const sockets = [];
    for (const user of ["a", "b", "c"]) sockets.push(await connected({ user }));
    const [a, b, c] = sockets;
    const joined = await Promise.all([a.emitWithAck("join", "x"), b.emitWithAck("join", "x")]);
    let strays = 0;
    c.on("said", () => strays++);
    const said = once(b, "said");
    a.emit("say", "x", "hello");
    const [heard] = await said;
    const bytes = await a.emitWithAck("echo", { part: Buffer.from([1, 2, 3]) });
    for (const socket of sockets) socket.disconnect();
    return { joined, heard, strays, bytes: [...bytes.part] };
  },

  // Several namespaces of one manager are one connection.
  async namespaces() {
    const manager = new Manager(url, options);
    const sockets = ["/", "/open"].map((name) => manager.socket(name, { auth: { user: "ann" } }));
    await Promise.all(sockets.map((socket) => once(socket, "connect")));
    const strict = manager.socket("/strict", {});
    const [error] = await once(strict, "connect_error");
    const both = await stats();
    sockets[0].disconnect();
    await after(100);
    const one = await stats();
    sockets[1].disconnect();
    const none = await until(({ open }) => open === 0);
    return { both: both.open, user: both.users.ann, one: one.open, none, strict: error.data };
  },

  // What the client sees when the server drains.
  async drain() {
    const socket = await connected({ user: "ann" }, "/", { reconnection: true });
    const left = once(socket, "disconnect");
    const draining = fetch(`${url}/drain?window=0.2`);
    const [reason, details] = await left;
    const [error] = await once(socket, "connect_error");
    const { open } = await (await draining).json();
    const { code, reason: text } = details.context;
    return { reason, code, text, open, error: error.data, active: socket.active };
  },

  // Many messages at once.
  async flood() {
    const socket = await connected({ user: "ann" });
    const began = Date.now();
    await Promise.all(Array.from({ length: 30 }, (_, n) => socket.emitWithAck("echo", n)));
    const seconds = (Date.now() - began) / 1000;
    const { limited } = await stats();
    socket.disconnect();
    return { seconds, limited };
  },

  // Long-polling, with and without the upgrade to a WebSocket.
  async polling() {
    const upgrade = !options.transports || options.transports.length > 1;
    const socket = await connected({ user: "ann" });
    if (upgrade && socket.io.engine.transport.name === "polling") {
      await once(socket.io.engine, "upgrade");
    }
    const transport = socket.io.engine.transport.name;
    const echo = await socket.emitWithAck("echo", "hi");
    const refused = await attempt({ user: "ann" });
    const { open } = await stats();
    const left = once(socket, "disconnect");
    await fetch(`${url}/drain`);
    const [reason] = await left;
    return { transport, echo, refused, open, reason, after: await until((now) => now.open === 0) };
  },
};

scenes[scene]().then((result) => {
  console.log(JSON.stringify(result));
  process.exit(0);
}, fail);
