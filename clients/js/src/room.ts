import { Emitter } from "./emitter.js";
import type { Clock } from "./environment.js";
import { TidegateError } from "./errors.js";
import type {
  Ack,
  HistoryPage,
  Member,
  Message,
  Position,
  PresenceState,
  Publication,
} from "./messages.js";
import { type Done, promised, type RequestOptions } from "./requests.js";

export interface RoomOptions {
  /** How many of the last messages to get when joining, 1000 at most. */
  history?: number;
  /** Whether to be told who is there, comes and leaves. */
  presence?: boolean;
}

export interface Joined {
  /** False for the first time, true when the client is back after a loss. */
  readonly again: boolean;
  /**
   * Whether no message was missed: those that came in the meantime follow. False means that the
   * application should load its state anew.
   */
  readonly recovered: boolean;
  readonly members: number;
}

export interface RoomEvents<T> {
  /** A message to the room. */
  message: Publication<T>;
  /** The client is a member now, for the first time or again. */
  joined: Joined;
  /** The server has taken the client out of the room, or keeps it out. */
  left: { readonly reason: string };
  /** `users` and `count` have changed. */
  presence: { readonly count: number; readonly users: ReadonlyMap<string, Member> };
  /** Messages were missed, and the room keeps no history to get them from. */
  gap: { readonly room: string };
  /** It could not be joined. */
  error: TidegateError;
}

/** What a room needs of its client. @internal */
export interface Host {
  readonly clock: Clock;
  /** Grows with each connection; undefined while there is none. */
  readonly connection: number | undefined;
  call(message: Message, options: RequestOptions, urgent: boolean, done: Done): void;
}

/** Seconds between two recoveries at least, so that a wrong server is not asked in a tight loop. */
const BETWEEN = 1;

/** A room. It is joined again after each reconnect, until `leave`. */
export class Room<T = any> extends Emitter<RoomEvents<T>> {
  readonly name: string;
  /** How many connections are members, as of the last join. */
  members = 0;
  /** Who is here, with the option `presence`. */
  readonly users = new Map<string, Member>();
  /** How many users are here, with the option `presence`. */
  count = 0;

  readonly #host: Host;
  #options: RoomOptions = {};
  /** Why the client is to be a member: it has asked for it, or the server has put it there. */
  #wanted: "asked" | "put" | undefined;
  #joined = false;
  #before = false;
  #epoch: string | undefined;
  #offset = 0;
  /** While messages of history come: the position that the room had when it was joined. */
  #replay = 0;
  /** Offsets of own messages that do not come back. */
  readonly #own = new Set<number>();
  #recovering = false;
  #recovered = -BETWEEN;
  #waiters: { resolve(joined: Joined): void; reject(error: TidegateError): void }[] = [];

  /** @internal */
  constructor(name: string, host: Host) {
    super();
    this.name = name;
    this.#host = host;
  }

  /** Whether the client is a member now. */
  get joined(): boolean {
    return this.#joined;
  }

  /** Where the client is in the room's history, if it keeps one. */
  get position(): Position | undefined {
    return this.#epoch ? { epoch: this.#epoch, offset: this.#offset } : undefined;
  }

  /**
   * Become a member, now and after each reconnect.
   *
   * While the client is not connected this waits. It fails with the server's error, such as
   * `room_limit`; the room is then tried again after the next reconnect, unless you leave it.
   */
  join(options: RoomOptions = this.#options): Promise<Joined> {
    this.#options = options;
    this.#wanted = "asked";
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
      if (this.#host.connection !== undefined && !this.#recovering) this.#enter();
    });
  }

  /** Stop being a member. */
  leave(): Promise<void> {
    const was = this.#joined;
    this.#joined = this.#before = false;
    this.#wanted = this.#epoch = undefined;
    this.#fail(new TidegateError("aborted", "The room was left"));
    return new Promise((resolve) => (was ? this.#exit(resolve) : resolve()));
  }

  /** Send a message to all members. The answer has its position where the room keeps history. */
  publish(data: T, options: RequestOptions & { echo?: boolean | undefined } = {}): Promise<Ack> {
    const { echo, ...rest } = options;
    const message = { type: "room_message", room: this.name, data, echo };
    return this.#ask(message, rest, (ack) => {
      if (echo === false && ack?.offset) {
        this.#own.add(ack.offset);
        this.#skip();
      }
    });
  }

  /** Ask who is here. */
  presence(options: RequestOptions = {}): Promise<PresenceState> {
    return this.#ask({ type: "presence", room: this.name }, options);
  }

  /** Read the room's history: the last messages, or the first after a position. */
  history(
    options: RequestOptions & { limit?: number | undefined; since?: Position | undefined } = {},
  ): Promise<HistoryPage<T>> {
    const { limit, since, ...rest } = options;
    return this.#ask({ type: "history", room: this.name, limit, since }, rest);
  }

  #ask<Reply>(
    message: Message,
    options: RequestOptions,
    done?: (reply: Reply) => void,
  ): Promise<Reply> {
    return promised((settle) => {
      this.#host.call(message, options, false, (result) => {
        if (!(result instanceof TidegateError)) done?.(result as Reply);
        settle(result);
      });
    });
  }

  #exit(done: () => void): void {
    this.#host.call({ type: "leave", room: this.name }, {}, true, done);
  }

  /** A message of the server for this room. @internal */
  receive(message: Message): void {
    switch (message.type) {
      case "room_message":
        return this.#message(message as unknown as Publication<T>);
      case "gap":
        if (!this.#epoch) this.emit("gap", { room: this.name });
        else this.#recover();
        return;
      case "joined":
        this.#joined = true;
        this.#wanted ??= "put";
        if (this.#epoch && message.offset !== this.#offset) this.#recover();
        else this.#settle(message as Ack, true);
        return;
      case "left":
        this.#joined = this.#before = false;
        this.#wanted = undefined;
        this.emit("left", { reason: String(message.reason) });
        return;
      case "presence_state":
      case "presence_count":
      case "user_joined":
      case "user_left":
        this.#presence(message as PresenceState);
    }
  }

  /** The client is connected, perhaps as a member already. @internal */
  connected(resumed: boolean): void {
    if (!resumed) {
      if (this.#wanted === "asked") this.#enter();
    } else if (!this.#wanted) {
      // It was left while there was no connection.
      this.#exit(() => {});
    } else {
      this.#joined = true;
      if (this.#epoch || this.#options.presence) this.#enter();
      else this.#announce({ again: true, recovered: true, members: this.members });
    }
  }

  /** The connection was lost. @internal */
  lost(): void {
    this.#joined = this.#recovering = false;
    this.#own.clear();
  }

  /** The client is closed. @internal */
  closed(error: TidegateError): void {
    this.#fail(error);
  }

  #message(message: Publication<T>): void {
    const { offset } = message;
    if (this.#recovering) return; // It comes again behind the answer.
    if (this.#epoch && typeof offset === "number") {
      const old = offset > this.#offset && offset <= this.#replay + 1;
      if (offset !== this.#offset + 1 && !old) return this.#recover();
      this.#replay = 0;
      this.#offset = offset;
      this.#skip();
    }
    this.emit("message", message);
  }

  #skip(): void {
    while (this.#own.delete(this.#offset + 1)) this.#offset++;
  }

  /** Join again to get what was missed. */
  #recover(): void {
    if (this.#recovering) return;
    this.#recovering = true;
    const { clock, connection } = this.#host;
    const go = () => {
      if (this.#host.connection === connection) this.#enter();
    };
    const wait = this.#recovered + BETWEEN - clock.now();
    if (wait > 0) clock.after(wait, go);
    else go();
  }

  /** Send `join`, and again when the server asks for that. */
  #enter(): void {
    const { clock, connection } = this.#host;
    const { history, presence } = this.#options;
    const since = this.position;
    this.#recovering = !!since;
    this.#recovered = clock.now();
    const message = { type: "join", room: this.name, history, presence, since };
    this.#host.call(message, {}, true, (result) => {
      // After a loss it is joined with the next connection.
      if (this.#host.connection !== connection) return;
      if (!(result instanceof TidegateError)) {
        const ack = result as Ack;
        // It was left before the answer came.
        if (!this.#wanted) return this.#exit(() => {});
        return this.#settle(ack, since ? ack.recovered === true : this.#joined || !this.#before);
      }
      if (result.retryAfter !== undefined) {
        clock.after(result.retryAfter + clock.random(), () => {
          if (this.#host.connection === connection && this.#wanted) this.#enter();
        });
        return;
      }
      this.#recovering = false;
      this.#fail(result);
      this.emit("error", result);
    });
  }

  #settle({ members = this.members, epoch, offset }: Ack, recovered: boolean): void {
    this.#joined = true;
    this.members = members;
    this.#own.clear();
    if (typeof offset === "number" && (!this.#epoch || !recovered)) {
      // Messages of history may follow, up to `offset`.
      this.#replay = offset;
      this.#offset = Math.max(0, offset - (this.#options.history ?? 0));
    }
    this.#epoch = epoch;
    this.#recovering = false;
    this.#announce({ again: this.#before, recovered, members });
  }

  #announce(joined: Joined): void {
    this.#before = true;
    this.emit("joined", joined);
    for (const { resolve } of this.#waiters.splice(0)) resolve(joined);
  }

  #fail(error: TidegateError): void {
    for (const { reject } of this.#waiters.splice(0)) reject(error);
  }

  #presence({ type, users, count }: PresenceState): void {
    if (type === "presence_state") this.users.clear();
    for (const user of (users as (Member | string)[]) ?? []) {
      if (typeof user === "string") this.users.delete(user);
      else this.users.set(user.user, user);
    }
    this.count = count;
    this.emit("presence", { count, users: this.users });
  }
}
