/** What no server can see: the browser around the client, its buffers, and wrong use. */
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Client, type ClientOptions, connect, MOVES, TidegateError } from "../src/index.js";
import { VirtualClock } from "./support/clock.js";
import { FakeSocket } from "./support/socket.js";

let clock: VirtualClock;

beforeEach(() => {
  clock = new VirtualClock(0.5);
  FakeSocket.all = [];
});
afterEach(() => vi.unstubAllGlobals());

const turn = () => new Promise((resolve) => setImmediate(resolve));

async function start(options: ClientOptions = {}): Promise<Client> {
  const client = connect("ws://example.com/ws", { clock, WebSocket: FakeSocket, ...options });
  await turn();
  return client;
}

async function opened(options: ClientOptions = {}): Promise<Client> {
  const client = await start(options);
  FakeSocket.last.connected();
  return client;
}

describe("the states", () => {
  test("all of them lead back to connecting and to closed", () => {
    const reached = (from: string, seen = new Set<string>()): Set<string> => {
      for (const to of Object.values(MOVES[from as keyof typeof MOVES]))
        if (!seen.has(to)) reached(to, seen.add(to));
      return seen;
    };
    for (const state of Object.keys(MOVES)) expect(reached(state)).toContain("connecting");
    for (const [state, moves] of Object.entries(MOVES))
      if (state !== "closed") expect(moves.stopped).toBe("closed");
  });

  test("a listener can end its listening, and close the client from within", async () => {
    const client = await start();
    const states: string[] = [];
    const end = client.on("state", ({ state }) => states.push(state));
    client.on("connected", () => client.close());
    FakeSocket.last.connected();
    end();
    client.connect();
    await turn();
    expect(states).toEqual(["open", "closed"]);
    expect(FakeSocket.all[0]!.closed).toBe(1000);
    client.close();
    expect(clock.size).toBe(0);
  });

  test.each(["connecting", "backoff", "open"])("a listener may close the client in %s", async (when) => {
    const client = new Client("ws://example.com/ws", { clock, WebSocket: FakeSocket });
    client.join("lobby");
    client.on("state", ({ state }) => state === when && client.close());
    client.connect();
    await turn();
    if (when !== "connecting") FakeSocket.last.connected();
    if (when === "backoff") FakeSocket.last.drop();
    await turn();
    expect(client.state).toBe("closed");
    expect(clock.size).toBe(0);
  });

  test("connecting twice is connecting once", async () => {
    const client = await start();
    client.connect();
    await turn();
    expect(FakeSocket.all).toHaveLength(1);
  });

  test("a listener that fails disturbs nobody, and is reported", async () => {
    const reported: unknown[] = [];
    vi.stubGlobal("queueMicrotask", (call: () => void) => {
      try {
        call();
      } catch (error) {
        reported.push(error);
      }
    });
    const client = await start();
    client.on("state", () => {
      throw new Error("oops");
    });
    const heard = vi.fn();
    client.on("state", heard);
    FakeSocket.last.connected();
    expect(heard).toHaveBeenCalledOnce();
    expect(reported).toEqual([new Error("oops")]);
  });
});

describe("the address", () => {
  test.each([
    ["https://example.com/ws", "wss://example.com/ws"],
    ["http://example.com:8000/ws?a=1", "ws://example.com:8000/ws?a=1"],
  ])("%s becomes %s", async (url, expected) => {
    connect(url, { clock, WebSocket: FakeSocket });
    await turn();
    expect(FakeSocket.last.url).toBe(expected);
  });

  test("in a page it may be relative", async () => {
    vi.stubGlobal("location", { href: "https://example.com/app/" });
    connect("/ws", { clock, WebSocket: FakeSocket });
    await turn();
    expect(FakeSocket.last.url).toBe("wss://example.com/ws");
  });

  test("one that is none is refused at once", () => {
    expect(() => new Client("nonsense", { WebSocket: FakeSocket })).toThrow(TypeError);
  });

  test("without a WebSocket class the client closes, and says so", async () => {
    vi.stubGlobal("WebSocket", undefined);
    const client = new Client("ws://example.com/ws", { clock });
    const errors: string[] = [];
    client.on("error", ({ code }) => errors.push(code));
    client.connect();
    await turn();
    expect(client.state).toBe("closed");
    expect(errors).toEqual(["unsupported"]);
  });

  test("the platform's own class is used where none is given", async () => {
    vi.stubGlobal("WebSocket", FakeSocket);
    connect("ws://example.com/ws", { clock });
    await turn();
    expect(FakeSocket.last.binaryType).toBe("arraybuffer");
  });
});

describe("in a browser", () => {
  let page: EventTarget & { visibilityState: string };
  let events: EventTarget;
  let navigator: { onLine: boolean };

  beforeEach(() => {
    events = new EventTarget();
    page = Object.assign(new EventTarget(), { visibilityState: "visible" });
    navigator = { onLine: true };
    vi.stubGlobal("document", page);
    vi.stubGlobal("navigator", navigator);
    vi.stubGlobal("addEventListener", events.addEventListener.bind(events));
    vi.stubGlobal("removeEventListener", events.removeEventListener.bind(events));
    vi.resetModules();
  });

  async function fresh(): Promise<Client> {
    const { connect } = await import("../src/index.js");
    const client = connect("ws://example.com/ws", { clock, WebSocket: FakeSocket }) as unknown as Client;
    await turn();
    return client;
  }

  const network = (online: boolean) => {
    navigator.onLine = online;
    events.dispatchEvent(new Event(online ? "online" : "offline"));
  };

  test("without network it waits, and comes back soon after it is there", async () => {
    const client = await fresh();
    FakeSocket.last.connected();
    network(false);
    expect(FakeSocket.last.sent).toEqual([{ type: "health_ping" }]);
    clock.advance(10);
    expect(client.state).toBe("backoff");
    clock.advance(20);
    expect(FakeSocket.all).toHaveLength(1);
    network(true);
    expect(FakeSocket.all).toHaveLength(1);
    clock.advance(0.5);
    await turn();
    expect(FakeSocket.all).toHaveLength(2);
    client.close();
  });

  test("a browser that says wrongly that there is no network does not keep it away for long", async () => {
    navigator.onLine = false;
    const client = await fresh();
    FakeSocket.last.drop();
    clock.advance(0.5 + 30);
    await turn();
    expect(FakeSocket.all).toHaveLength(2);
    client.close();
  });

  test("a delay of the server holds when the network comes back", async () => {
    const client = await fresh();
    FakeSocket.last.drop(1013, '{"error":"server_limit","retryAfter":10}');
    network(true);
    clock.advance(10);
    await turn();
    expect(FakeSocket.all).toHaveLength(1);
    clock.advance(0.5);
    await turn();
    expect(FakeSocket.all).toHaveLength(2);
    client.close();
  });

  test("a page that is shown again finds out at once whether it is still connected", async () => {
    const client = await fresh();
    FakeSocket.last.connected();
    page.visibilityState = "hidden";
    page.dispatchEvent(new Event("visibilitychange"));
    expect(FakeSocket.last.sent).toEqual([]);
    page.visibilityState = "visible";
    page.dispatchEvent(new Event("visibilitychange"));
    expect(FakeSocket.last.sent).toEqual([{ type: "health_ping" }]);
    FakeSocket.last.receive({ type: "health_pong" });
    clock.advance(29);
    expect(client.state).toBe("open");
    client.close();
  });

  test("a closed client listens to nothing", async () => {
    const client = await fresh();
    const removed = vi.fn();
    vi.stubGlobal("removeEventListener", removed);
    client.close();
    network(false);
    network(true);
    clock.advance(100);
    await turn();
    expect(FakeSocket.all).toHaveLength(1);
    expect(removed).toHaveBeenCalledTimes(2);
  });

  test("timers that a hidden page has late do not cut a connection that was never asked", async () => {
    const client = await fresh();
    FakeSocket.last.connected();
    clock.advance(29);
    FakeSocket.last.receive({ type: "moon" });
    clock.advance(29);
    expect(FakeSocket.last.sent).toEqual([]);
    clock.advance(1);
    expect(FakeSocket.last.sent).toEqual([{ type: "health_ping" }]);
    expect(client.state).toBe("open");
    client.close();
  });
});

describe("sending", () => {
  test("messages wait while the socket has too much to send, and go when it has room", async () => {
    const client = await opened({ maxBuffered: 1000 });
    const socket = FakeSocket.last;
    socket.bufferedAmount = 1001;
    client.direct("bob", 1).catch(() => {});
    client.direct("bob", 2).catch(() => {});
    clock.advance(1);
    expect(socket.sent).toEqual([]);
    socket.bufferedAmount = 0;
    clock.advance(0.05);
    expect(socket.sent.map(({ data }) => data)).toEqual([1, 2]);
    client.close();
    expect(clock.size).toBe(0);
  });

  test("a value that cannot be written fails its request only", async () => {
    const client = await opened();
    await expect(client.direct("bob", 1n)).rejects.toMatchObject({ code: "bad_message" });
    expect(client.state).toBe("open");
  });

  test("a request that was aborted before is not sent", async () => {
    const client = await opened();
    const signal = AbortSignal.abort();
    await expect(client.direct("bob", 1, { signal })).rejects.toBeInstanceOf(TidegateError);
    expect(FakeSocket.last.sent).toEqual([]);
    expect(clock.size).toBe(1);
  });

  test("a socket that refuses to send does not break the client", async () => {
    const client = await opened();
    FakeSocket.last.send = () => {
      throw new Error("still closing");
    };
    const done = expect(client.direct("bob", 1)).rejects.toMatchObject({ code: "connection_lost" });
    FakeSocket.last.drop();
    await done;
  });
});

describe("the token", () => {
  test("a function that never answers is given up, and its late answer is not used", async () => {
    let answer = (_: string) => {};
    const token = vi.fn(() => new Promise<string>((resolve) => (answer = resolve)));
    const client = await start({ token });
    clock.advance(15);
    expect(client.state).toBe("backoff");
    answer("late");
    await turn();
    expect(FakeSocket.all).toHaveLength(0);
    client.close();
  });

  test("closing while it is awaited leaves nothing behind", async () => {
    const client = await start({ token: async () => "t" });
    client.close();
    client.connect();
    client.close();
    await turn();
    expect(client.state).toBe("closed");
    expect(FakeSocket.all).toHaveLength(1);
    expect(clock.size).toBe(0);
  });
});

test("a client of many rooms joins them all, and keeps no timers of them", async () => {
  const client = await opened();
  for (let i = 0; i < 100; i++) client.join(`room ${i}`);
  expect(client.room("room 5")).toBe(client.room("room 5"));
  const asked = FakeSocket.last.sent.length;
  for (const { id } of [...FakeSocket.last.sent]) FakeSocket.last.receive({ type: "ack", id, members: 1 });
  expect(asked).toBe(100);
  expect(client.room("room 99").joined).toBe(true);
  client.close();
  expect(clock.size).toBe(0);
  expect(client.room("room 5").joined).toBe(false);
});
