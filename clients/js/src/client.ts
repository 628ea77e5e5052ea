import { type Codec, json } from "./codec.js";
import { Emitter } from "./emitter.js";
import { type Clock, clock as realClock, offline, watch } from "./environment.js";
import { TidegateError } from "./errors.js";
import { Link } from "./link.js";
import { MOVES, type Move, type State } from "./machine.js";
import type {
  Ack,
  Broadcast,
  Connected,
  Direct,
  Message,
  QueueStatus,
  Settings,
  Shutdown,
  System,
} from "./messages.js";
import { type Done, promised, type QueuePolicy, type RequestOptions, Requests } from "./requests.js";
import { delay, type Loss, next, seconds } from "./retry.js";
import { Room, type RoomOptions } from "./room.js";
import type { WebSocketClass } from "./websocket.js";

export interface ClientOptions {
  /**
   * A token, or how to get one. The function is asked before the first connection, when a token is
   * about to expire, and once when the server refuses one. Null means that there is none.
   */
  token?: string | (() => string | null | Promise<string | null>);
  /** JSON unless given: `msgpack` of `tidegate/msgpack`. */
  codec?: Codec;
  /** The WebSocket class; the platform's own unless given. */
  WebSocket?: unknown;
  /** Seconds within which a connection must be ready, or be in the waiting room; 15 by default. */
  connectTimeout?: number;
  /** Reconnects after a failure come after a random part of `base` seconds, doubled up to `cap`. */
  backoff?: { base?: number; cap?: number };
  /** How long a connection must hold for `backoff` to start over, in seconds; 10 by default. */
  stableAfter?: number;
  /** How many messages may wait to be sent; 100 by default. */
  queueSize?: number;
  /** What happens when more wait: `refuse` (the default) or `drop_oldest`. */
  queuePolicy?: QueuePolicy;
  /** How many bytes the WebSocket may hold before messages wait here instead; 1 MiB by default. */
  maxBuffered?: number;
  /** The largest message that is accepted, in bytes (for text: UTF-16 units); 4 MiB by default. */
  maxMessageSize?: number;
  /** Time and chance, for tests. */
  clock?: Clock;
}

/** A change of state. */
export interface StateChange {
  readonly state: State;
  readonly previous: State;
  /** Why a connection ended, with `backoff` and `closed`. */
  readonly loss?: Loss | undefined;
  /** Seconds until the next attempt, with `backoff`. */
  readonly delay?: number | undefined;
}

export interface ClientEvents {
  state: StateChange;
  /** The connection is ready, for the first time or again. Rooms are joined by themselves. */
  connected: Connected;
  /** The server is full, and this is the client's place in its waiting room. */
  waiting: QueueStatus;
  /** A message to this user. */
  direct: Direct<any>;
  /** A message to everybody. */
  broadcast: Broadcast<any>;
  /** The server's zone, and what the client may do, have changed. */
  system: System;
  /** The server is going away; the client comes back in its own slot. */
  shutdown: Shutdown;
  /** The server has put this client into a room. */
  room: Room;
  /** Something failed that no request is told of. */
  error: TidegateError;
}

/** A connection to Tidegate that comes back by itself, when it is welcome. */
export class Client extends Emitter<ClientEvents> {
  readonly #url: URL;
  readonly #options: ClientOptions;
  readonly #codec: Codec;
  readonly #clock: Clock;
  readonly #backoff: { base: number; cap: number };
  readonly #rooms = new Map<string, Room>();
  readonly #requests: Requests;

  #state: State = "closed";
  #link: Link | undefined;
  #connection = 0;
  #settings: Settings | undefined;
  #failures = 0;
  #openedAt = 0;
  #slotAt = 0;
  /** Whether the server has said when to come back. */
  #held = false;
  #token: string | null | undefined;
  /** Whether the present token was asked for because the server had refused the one before. */
  #renewed = false;
  #session: string | undefined;
  #seq = 0;
  #cancel = () => {};
  #unwatch = () => {};

  constructor(url: string | URL, options: ClientOptions = {}) {
    super();
    this.#url = new URL(url, (globalThis as { location?: { href: string } }).location?.href);
    this.#url.protocol = this.#url.protocol.replace("http", "ws");
    this.#options = options;
    this.#codec = options.codec ?? json;
    this.#clock = options.clock ?? realClock;
    this.#backoff = { base: 1, cap: 30, ...options.backoff };
    const { queueSize = 100, queuePolicy = "refuse", maxBuffered = 1 << 20 } = options;
    this.#requests = new Requests(this.#clock, queueSize, queuePolicy, (data, urgent) => {
      const link = this.#link;
      if (!link || this.#state !== "open" || (!urgent && link.buffered > maxBuffered)) return false;
      link.send(data);
      return true;
    });
  }

  get state(): State {
    return this.#state;
  }

  /** What the client may do, as the server has said last. */
  get settings(): Settings | undefined {
    return this.#settings;
  }

  /** Connect, and stay connected until `close`. */
  connect(): void {
    if (this.#state !== "closed") return;
    this.#unwatch = watch(() => this.#changed());
    this.#failures = this.#slotAt = 0;
    this.#renewed = false;
    this.#move("start");
    this.#open();
  }

  /** Close the connection, and do not come back. Messages that wait are dropped. */
  close(): void {
    this.#link?.close();
    this.#session = undefined;
    this.#stop({ code: 1000 });
  }

  /** A room; the same object for the same name. Nothing is sent before `join`. */
  room<T = any>(name: string): Room<T> {
    let room = this.#rooms.get(name);
    if (!room) {
      const client = this;
      room = new Room(name, {
        clock: this.#clock,
        get connection() {
          return client.#state === "open" ? client.#connection : undefined;
        },
        call: (message, options, urgent, done) => this.#call(message, options, urgent, done),
      });
      this.#rooms.set(name, room);
    }
    return room as Room<T>;
  }

  /** Join a room; the same as `room(name)` and `join`. */
  join<T = any>(name: string, options?: RoomOptions): Room<T> {
    const room = this.room<T>(name);
    room.join(options).catch(() => {}); // The room's event `error` tells.
    return room;
  }

  /** Send a message to every connection of a user. */
  direct(user: string, data: unknown, options?: RequestOptions): Promise<Ack> {
    return this.request({ type: "direct_message", user, data }, options) as Promise<Ack>;
  }

  /** Send a message to everybody, as an operator. */
  broadcast(data: unknown, options?: RequestOptions): Promise<Ack> {
    return this.request({ type: "broadcast", data }, options) as Promise<Ack>;
  }

  /** Ask whether the server answers; the result is how many seconds it took. */
  async ping(options?: RequestOptions): Promise<number> {
    const start = this.#clock.now();
    await this.request({ type: "health_ping" }, options);
    return this.#clock.now() - start;
  }

  /**
   * Send any message of the protocol, and wait for its answer.
   *
   * While the client is not connected the message waits in the queue.
   *
   * @throws TidegateError with the server's error, or one of the client's own.
   */
  request(message: Message, options: RequestOptions = {}): Promise<Message> {
    return this.#ask(message, options, false);
  }

  #ask(message: Message, options: RequestOptions, urgent: boolean): Promise<Message> {
    return promised((done) => this.#call(message, options, urgent, done));
  }

  #call(message: Message, options: RequestOptions, urgent: boolean, done: Done): void {
    if (this.#state === "closed") return done(closed());
    const encode = (id: number | undefined) => {
      const data = this.#codec.encode({ ...message, id });
      const most = this.#settings?.maxMessageSize ?? Infinity;
      // The server's error `too_big` has no id.
      if (data.length * 3 > most && bytes(data) > most)
        throw new TidegateError("too_big", `A message has at most ${most} bytes`);
      return data;
    };
    this.#requests.add(encode, options, urgent, done);
  }

  #move(move: Move, more?: Pick<StateChange, "loss" | "delay">): void {
    const previous = this.#state;
    const state = MOVES[previous][move];
    if (!state) return;
    this.#state = state;
    this.emit("state", { state, previous, ...more });
  }

  async #open(): Promise<void> {
    // A listener may have closed the client, or even connected it again.
    if (this.#state !== "connecting" || this.#link) return;
    const connection = ++this.#connection;
    const lost = (loss: Loss) => {
      if (connection === this.#connection) this.#lost(loss);
    };
    const { token: source, connectTimeout = 15, maxMessageSize = 4 << 20 } = this.#options;
    this.#cancel = this.#clock.after(connectTimeout, () => {
      if (this.#link) this.#link.fail("timeout");
      else lost({ code: 1006, error: "timeout" });
    });
    try {
      this.#token ??= typeof source === "function" ? await source() : source;
    } catch (error) {
      this.#error("token_failed", error);
      return lost({ code: 1006, error: "token_failed" });
    }
    if (connection !== this.#connection) return;
    if (this.#renewed && !this.#token) return this.#stop({ code: 4501, error: "unauthorized" });
    const protocols = [this.#codec.protocol];
    if (this.#token) protocols.push(`tidegate.token.${this.#token}`);
    if (this.#session) protocols.push(`tidegate.session.${this.#session}.${this.#seq}`);
    try {
      const Socket = (this.#options.WebSocket ?? globalThis.WebSocket) as WebSocketClass;
      this.#link = new Link(
        new Socket(this.#url.href, protocols),
        this.#codec,
        this.#clock,
        maxMessageSize,
        (message) => this.#receive(message),
        lost,
      );
    } catch (error) {
      // There is no such class, or the URL or the token is not valid: this will not get better.
      this.#error("unsupported", error);
      this.#stop({ code: 1006, error: "unsupported" });
    }
  }

  #receive(message: Message): void {
    const { type, route } = message;
    // Of `connected` and `server_shutdown`: an empty one is for anywhere.
    if (typeof route === "string") {
      this.#url.searchParams.delete("route");
      if (route) this.#url.searchParams.set("route", route);
    }
    if (type === "connected") return this.#connected(message as Connected);
    if (type === "queue_status") {
      if (this.#state === "open") return;
      this.#cancel();
      this.#move("queued");
      return this.emit("waiting", message as QueueStatus);
    }
    if (this.#state !== "open") return;
    const room = this.#rooms.get(message.room as string);
    const asked = this.#requests.answer(message);
    switch (type) {
      case "error":
        if (!asked) this.emit("error", new TidegateError(String(message.code), String(message.message)));
        return;
      case "direct_message": {
        const { seq } = message as unknown as Direct;
        if (typeof seq === "number") {
          if (seq <= this.#seq) return;
          this.#seq = seq;
        }
        return this.emit("direct", message as unknown as Direct);
      }
      case "broadcast":
        return this.emit("broadcast", message as unknown as Broadcast);
      case "system":
        this.#apply((message as System).settings);
        return this.emit("system", message as System);
      case "server_shutdown":
        this.#slotAt = this.#clock.now() + (seconds((message as Shutdown).reconnectDelay) ?? 0);
        return this.emit("shutdown", message as Shutdown);
      case "token_expiring":
        return void this.#refresh();
      case "joined":
        if (!room) this.emit("room", this.room(String(message.room)));
        this.room(String(message.room)).receive(message);
        return;
      default:
        room?.receive(message);
    }
  }

  #connected(message: Connected): void {
    if (this.#state === "open" || !this.#link) return;
    this.#cancel();
    this.#openedAt = this.#clock.now();
    this.#renewed = false;
    this.#session = message.session;
    if (!message.resumed) this.#seq = 0;
    this.#apply(message.settings);
    this.#move("connected");
    this.emit("connected", message);
    if (!this.#link) return; // A listener has closed the client.
    const rooms = new Set(message.resumed ? message.rooms : []);
    for (const name of rooms) this.room(name);
    for (const [name, room] of this.#rooms) room.connected(rooms.has(name));
    this.#requests.flush();
  }

  #apply(settings: Settings | undefined): void {
    this.#settings = settings;
    const interval = seconds(settings?.pingInterval);
    this.#link?.watch(interval ? Math.max(1, interval) : undefined);
  }

  #lost(loss: Loss): void {
    this.#detach();
    if (this.#state === "open" && this.#clock.now() - this.#openedAt >= (this.#options.stableAfter ?? 10))
      this.#failures = 0;
    let then = next(loss);
    if (then === "token") {
      if (this.#renewed || typeof this.#options.token !== "function") return this.#stop(loss);
      this.#renewed = true;
      this.#token = undefined;
      then = { given: 0, slot: false };
    }
    if (then === "stop") return this.#stop(loss);
    this.#held = then.given > 0;
    const random = this.#clock.random();
    const wait = Math.max(
      delay(then, this.#failures++, random, this.#backoff),
      this.#slotAt - this.#clock.now(),
    );
    this.#slotAt = 0;
    this.#move("lost", { loss, delay: wait });
    if (this.#state === "backoff") this.#schedule(wait);
  }

  #schedule(wait: number): void {
    this.#cancel();
    this.#cancel = this.#clock.after(wait, () => {
      this.#held = false;
      // Without network it would fail; `online` comes sooner, if the browser is right.
      if (offline() && wait < this.#backoff.cap) return this.#schedule(this.#backoff.cap);
      this.#move("due");
      this.#open();
    });
  }

  /** The network came or went, or the page is shown again. */
  #changed(): void {
    if (this.#state === "open") this.#link?.probe();
    else if (this.#state === "backoff" && !this.#held && !offline())
      this.#schedule(delay({ given: 0, slot: false }, 0, this.#clock.random(), this.#backoff));
  }

  /** Get a new token, and show it on the open connection. */
  async #refresh(): Promise<void> {
    const { token: source } = this.#options;
    if (typeof source !== "function") return;
    const connection = this.#connection;
    try {
      const token = await source();
      if (!token) return;
      this.#token = token;
      await this.#show(connection);
    } catch (error) {
      const { code } = error as TidegateError;
      if (code !== "connection_lost" && code !== "closed") this.#error("token_failed", error);
    }
  }

  async #show(connection: number): Promise<void> {
    if (connection !== this.#connection) return;
    try {
      await this.#ask({ type: "auth", token: this.#token }, {}, true);
    } catch (error) {
      const { retryAfter } = error as TidegateError;
      if (retryAfter === undefined) throw error;
      await new Promise<void>((resolve) => this.#clock.after(retryAfter, resolve));
      await this.#show(connection);
    }
  }

  #error(code: string, cause: unknown): void {
    this.emit("error", new TidegateError(code, String((cause as Error)?.message ?? cause)));
  }

  #detach(): void {
    this.#cancel();
    this.#connection++;
    this.#link = undefined;
    this.#requests.lost();
    for (const room of this.#rooms.values()) room.lost();
  }

  #stop(loss: Loss): void {
    this.#detach();
    this.#unwatch();
    this.#token = undefined;
    this.#move("stopped", { loss });
    this.#requests.close(closed());
    for (const room of this.#rooms.values()) room.closed(closed());
  }
}

const closed = () => new TidegateError("closed", "The client is closed");

const bytes = (data: string | Uint8Array): number =>
  typeof data === "string" ? new TextEncoder().encode(data).length : data.length;

/** Make a client and connect it. */
export function connect(url: string | URL, options?: ClientOptions): Client {
  const client = new Client(url, options);
  client.connect();
  return client;
}
