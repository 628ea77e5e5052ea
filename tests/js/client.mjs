// Scenes that a test plays with the npm package `ws`: node client.mjs SCENE URL [OPTIONS as JSON].
// Prints one JSON value; fails when a scene is not over in 20 seconds.

import { randomBytes } from "node:crypto";
import { once } from "node:events";
import WebSocket from "ws";

const [scene, url, options] = process.argv.slice(2);
const { protocols = [], ...settings } = JSON.parse(options ?? "{}");
setTimeout(() => fail(new Error(`${scene} is not over`)), 20_000).unref();

function fail(error) {
  console.error(error);
  process.exit(1);
}

// A socket that keeps what comes until it is asked for.
function open() {
  const socket = new WebSocket(url, protocols, settings);
  const arrived = [];
  const waiting = [];
  socket.on("message", (data, binary) => {
    const message = binary ? data : data.toString();
    waiting.length ? waiting.shift()(message) : arrived.push(message);
  });
  socket.next = () =>
    arrived.length
      ? Promise.resolve(arrived.shift())
      : new Promise((resolve) => waiting.push(resolve));
  return socket;
}

async function opened() {
  const socket = open();
  await once(socket, "open");
  return socket;
}

async function closed(socket) {
  const [code, reason] = await once(socket, "close");
  return { code, reason: reason.toString() };
}

const scenes = {
  // Text and binary of many sizes, fragments, and a ping.
  async echo() {
    const socket = await opened();
    const sizes = [0, 1, 125, 126, 65535, 65536, 1 << 20];
    for (const size of sizes) {
      for (const message of ["ü".repeat(size / 2), randomBytes(size)]) {
        socket.send(message);
        const answer = await socket.next();
        if (!Buffer.from(answer).equals(Buffer.from(message))) throw new Error(`size ${size}`);
      }
    }
    socket.send("frag", { fin: false });
    socket.send("men", { fin: false });
    socket.send("ts", { fin: true });
    const fragments = await socket.next();
    socket.ping("now");
    const [pong] = await once(socket, "pong");
    socket.close(4001, "bye");
    return {
      sizes,
      fragments,
      pong: pong.toString(),
      extensions: socket.extensions,
      close: await closed(socket),
    };
  },

  // What a refused client sees of the HTTP answer.
  async refused() {
    const socket = open();
    const [, response] = await once(socket, "unexpected-response");
    let body = "";
    for await (const chunk of response) body += chunk;
    return { status: response.statusCode, headers: response.headers, body: JSON.parse(body) };
  },

  // What a client of the native protocol sees when it is refused.
  async refusedInBand() {
    const socket = open();
    const close = await closed(socket);
    return { protocol: socket.protocol, ...close };
  },

  // Two clients in one room.
  async room() {
    const [one, two] = [await opened(), await opened()];
    const ask = async (socket, message) => {
      socket.send(JSON.stringify({ ...message, id: 1 }));
      return JSON.parse(await socket.next());
    };
    const welcome = JSON.parse(await one.next());
    await two.next();
    const acks = [
      await ask(one, { type: "join", room: "r" }),
      await ask(two, { type: "join", room: "r" }),
    ];
    one.send(JSON.stringify({ type: "room_message", room: "r", data: { n: 1 }, echo: false }));
    const heard = JSON.parse(await two.next());
    one.close();
    two.close();
    await Promise.all([closed(one), closed(two)]);
    return { welcome, acks, heard };
  },

  // Answers pings by itself for a while.
  async stay() {
    const socket = await opened();
    let pings = 0;
    socket.on("ping", () => pings++);
    await new Promise((resolve) => setTimeout(resolve, 1200));
    const open = socket.readyState === WebSocket.OPEN;
    socket.terminate();
    return { pings, open };
  },

  // The server closes.
  async closedByServer() {
    const socket = await opened();
    socket.send("close 4000 so long");
    return closed(socket);
  },
};

try {
  console.log(JSON.stringify(await scenes[scene]()));
} catch (error) {
  fail(error);
}
