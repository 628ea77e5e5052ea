// Scenes with the official Socket.IO client: node socketio.mjs SCENE URL. Prints one JSON value.

import { io } from "socket.io-client";

const [scene, url] = process.argv.slice(2);
setTimeout(() => { console.error(`${scene} is not over`); process.exit(1); }, 20_000).unref();

const open = (auth, more = {}) =>
  io(url, { transports: ["websocket"], reconnection: false, forceNew: true, auth, ...more });

// What becomes of an attempt: "connected", or the error that the client is given.
const outcome = (socket) =>
  new Promise((resolve) => {
    socket.once("connect", () => resolve("connected"));
    socket.once("connect_error", (error) => resolve({ message: error.message, data: error.data ?? null }));
  });

const SCENES = {
  async limits() {
    const sockets = [open({ user: "ann" }), open({ user: "ann" })];
    const first = await Promise.all(sockets.map(outcome));
    const third = open({ user: "ann" });
    const refused = await outcome(third);
    sockets[0].disconnect();
    let again;
    for (let tries = 0; tries < 50; tries += 1) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      again = await outcome(open({ user: "ann" }));
      if (again === "connected") break;
    }
    return { first, refused, again };
  },
  async refusals() {
    const results = {};
    for (const [name, auth] of Object.entries({ nobody: { user: "nobody" }, refuse: { refuse: true }, fail: { fail: true } })) {
      results[name] = await outcome(open(auth));
    }
    return results;
  },
  async chat() {
    const [ann, bob] = [open({ user: "ann" }), open({ user: "bob" })];
    await Promise.all([outcome(ann), outcome(bob)]);
    const said = new Promise((resolve) => bob.once("said", resolve));
    const answer = await ann.emitWithAck("say", "hello");
    return { answer, said: await said };
  },
  async namespaces() {
    const socket = io(url, { transports: ["websocket"], reconnection: false, auth: { user: "cid" } });
    const result = [await outcome(socket)];
    const stats = await (await fetch(`${url}/stats`)).json();
    result.push(stats.open);
    return result;
  },
  async polling() {
    return outcome(open({ user: "dan" }, { transports: ["polling"] }));
  },
  async hold() {
    const socket = open({ user: "eve" });
    await outcome(socket);
    console.log(JSON.stringify("holds"));
    return new Promise((resolve) => socket.once("disconnect", (reason) => resolve(reason)));
  },
};

const result = await SCENES[scene]();
console.log(JSON.stringify(result));
process.exit(0);
