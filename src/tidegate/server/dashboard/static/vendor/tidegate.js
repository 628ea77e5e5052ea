//#region src/codec.ts
const json = {
	protocol: "tidegate.v1.json",
	encode: JSON.stringify,
	decode: (data) => JSON.parse(data)
};

//#endregion
//#region src/emitter.ts
/** Listeners by name. */
var Emitter = class {
	#listeners = /* @__PURE__ */ new Map();
	/** Calls the listener on each such event; returns a function that ends this. */
	on(name, listener) {
		const set = this.#listeners.get(name) ?? /* @__PURE__ */ new Set();
		this.#listeners.set(name, set.add(listener));
		return () => void set.delete(listener);
	}
	emit(name, event) {
		for (const listener of [...this.#listeners.get(name) ?? []]) try {
			listener(event);
		} catch (error) {
			queueMicrotask(() => {
				throw error;
			});
		}
	}
};

//#endregion
//#region src/environment.ts
const clock = {
	now: () => performance.now() / 1e3,
	after: (seconds, call) => {
		const timer = setTimeout(call, Math.min(seconds * 1e3, 2 ** 31 - 1));
		return () => clearTimeout(timer);
	},
	random: Math.random
};
const surroundings = globalThis;
/** Whether the browser says that there is no network. */
const offline = () => surroundings.navigator?.onLine === false;
/** Calls back when the network comes or goes, and when a page is shown again. */
function watch(changed) {
	const { document } = surroundings;
	const listener = ({ type }) => {
		if (type !== SHOWN || document?.visibilityState === "visible") changed();
	};
	const each = (method) => {
		surroundings[method]?.("online", listener);
		surroundings[method]?.("offline", listener);
		document?.[method]?.(SHOWN, listener);
	};
	each("addEventListener");
	return () => each("removeEventListener");
}
const SHOWN = "visibilitychange";

//#endregion
//#region src/errors.ts
/** Why a request failed or a client gave up. */
var TidegateError = class extends Error {
	/**
	* A code of the server's table of errors, or one of the client's own: `timeout`, `aborted`, `closed`,
	* `connection_lost` (the request may have been carried out), `queue_full`, `dropped`, `too_big`,
	* `bad_message`, `token_failed`, `unsupported`.
	*/
	code;
	/** Seconds after which the same may succeed, where the server said so. */
	retryAfter;
	constructor(code, message, retryAfter) {
		super(message);
		this.name = "TidegateError";
		this.code = code;
		this.retryAfter = retryAfter;
	}
};

//#endregion
//#region src/codes.ts
/** Seconds after which to come back, by close code; null for not at all. */
const CODES = new Map([
	[1e3, null],
	[1001, 5],
	[1002, null],
	[1007, null],
	[1008, null],
	[1009, null],
	[1011, 5],
	[1012, 5],
	[1013, 5],
	[4002, 10],
	[4008, 5],
	[4009, 5],
	[4010, 1]
]);

//#endregion
//#region src/retry.ts
/** The shortest delay, in seconds. */
const FLOOR = .1;
/** The longest delay that a server can ask for, in seconds. */
const LONGEST = 3600;
/** A number of seconds from the server, if it is one; an hour at most. */
const seconds = (value) => typeof value === "number" && value >= 0 ? Math.min(value, LONGEST) : void 0;
/** Whether to come back after a loss, as the table of codes says. */
function next({ code, error, retryAfter, status }) {
	if (code === 4501 || status === 401) return "token";
	const usual = CODES.get(code);
	if (retryAfter === null || usual === null || code >= 4500 && code < 5e3 || status && status < 500 && status !== 408 && status !== 429) return "stop";
	const given = seconds(retryAfter);
	return {
		given: given ?? usual ?? 0,
		slot: given !== void 0 && (error === "rate_limited" || error === "drained")
	};
}
/**
* Seconds until the next attempt: the server's delay and, unless that is a slot of this client's own,
* a random part of a second (`base`), which doubles with each failure up to `cap`.
*
* @param failures Failures in a row before this one.
* @param random From 0 to 1.
*/
function delay({ given, slot }, failures, random, { base, cap }) {
	const jitter = Math.max(FLOOR, random * Math.min(cap, base * 2 ** failures));
	if (!slot) return given + jitter;
	return Math.max(given, given >= base ? 0 : failures ? jitter : FLOOR);
}

//#endregion
//#region src/link.ts
/** Seconds within which a silent server must show a sign of life when it is asked for one. */
const PATIENCE = 10;
const nothing = () => {};
/** One WebSocket, from the first byte to its loss, and whether the server is still there. */
var Link = class {
	#socket;
	#codec;
	#clock;
	#lost;
	#interval = 30;
	#cancel = nothing;
	constructor(socket, codec, clock, maxSize, message, lost) {
		this.#socket = socket;
		this.#codec = codec;
		this.#clock = clock;
		this.#lost = lost;
		socket.binaryType = "arraybuffer";
		socket.onerror = nothing;
		socket.onmessage = ({ data }) => {
			this.watch();
			if ((data.length ?? data.byteLength) > maxSize) return this.fail("message_too_big");
			try {
				const value = codec.decode(data);
				if (typeof value.type !== "string") throw 0;
				message(value);
			} catch {
				this.fail("bad_message");
			}
		};
		socket.onclose = ({ code, reason }) => this.#end({
			...parse(reason),
			code
		});
		socket.on?.("ping", () => this.watch());
		socket.on?.("unexpected-response", (_, { statusCode, headers }) => {
			const error = headers["x-rejection-reason"];
			const retryAfter = seconds(Number.parseFloat(headers["retry-after"])) ?? (error ? null : void 0);
			this.#end({
				code: 1006,
				status: statusCode,
				error,
				retryAfter
			});
			this.#abort();
		});
	}
	/** Bytes that wait to be sent. */
	get buffered() {
		return this.#socket.bufferedAmount;
	}
	send(data) {
		try {
			this.#socket.send(data);
		} catch {}
	}
	/** There was a sign of life; after so many seconds of silence the server is asked for one. */
	watch(interval = this.#interval) {
		this.#interval = interval;
		this.#wait(interval, () => this.probe());
	}
	/** Find out now whether the server is still there. */
	probe() {
		this.send(this.#codec.encode({ type: "health_ping" }));
		this.#wait(PATIENCE, () => this.fail("timeout"));
	}
	/** Close from this side; nothing is reported. */
	close() {
		this.#detach();
		this.#socket.close(1e3);
	}
	/** Cut the connection, and report it as lost. */
	fail(error) {
		this.#end({
			code: 1006,
			error
		});
		this.#abort();
	}
	#wait(seconds, then) {
		this.#cancel();
		this.#cancel = this.#clock.after(seconds, then);
	}
	#end(loss) {
		this.#detach();
		this.#lost(loss);
	}
	#abort() {
		(this.#socket.terminate ?? this.#socket.close).call(this.#socket);
	}
	#detach() {
		this.#cancel();
		const socket = this.#socket;
		socket.onmessage = socket.onclose = null;
		socket.onerror = nothing;
	}
};
/** The reason of a close frame: JSON in our form, or text. */
function parse(reason) {
	try {
		return {
			...JSON.parse(reason),
			status: void 0
		};
	} catch {
		return { detail: reason || void 0 };
	}
}

//#endregion
//#region src/machine.ts
const MOVES = {
	closed: { start: "connecting" },
	connecting: {
		queued: "waiting",
		connected: "open",
		lost: "backoff",
		stopped: "closed"
	},
	waiting: {
		connected: "open",
		lost: "backoff",
		stopped: "closed"
	},
	open: {
		lost: "backoff",
		stopped: "closed"
	},
	backoff: {
		due: "connecting",
		stopped: "closed"
	}
};

//#endregion
//#region src/requests.ts
/** Calls with `done`, and returns a promise of what it is given. */
const promised = (call) => new Promise((resolve, reject) => {
	call((result) => {
		if (result instanceof TidegateError) reject(result);
		else resolve(result);
	});
});
/** Seconds between two looks at a socket that has too much to send. */
const BLOCKED = .05;
/** Requests that wait to be sent, and those that wait for their answer. */
var Requests = class {
	#sent = /* @__PURE__ */ new Map();
	#queue = /* @__PURE__ */ new Map();
	#clock;
	#limit;
	#policy;
	#send;
	#last = 0;
	#cancel;
	/** `send` says whether the data could go now. */
	constructor(clock, limit, policy, send) {
		this.#clock = clock;
		this.#limit = limit;
		this.#policy = policy;
		this.#send = send;
	}
	/**
	* Send a request, or keep it until it can be sent.
	*
	* @param encode Writes it with this id; may raise an error.
	* @param urgent Before those that wait, and now or never.
	* @param done Called in the same turn as the answer comes, before the next message is handled.
	*/
	add(encode, { timeout = 10, signal, ack = true }, urgent, done) {
		const id = ++this.#last;
		let data;
		try {
			data = encode(ack ? id : void 0);
		} catch (error) {
			if (!(error instanceof TidegateError)) error = new TidegateError("bad_message", String(error));
			return done(error);
		}
		const settle = (result) => {
			cancel();
			signal?.removeEventListener("abort", abort);
			this.#sent.delete(id);
			this.#queue.delete(id);
			done(result);
		};
		const abort = () => settle(new TidegateError("aborted", "It was aborted"));
		const late = () => settle(new TidegateError("timeout", "No answer in time"));
		const entry = {
			data,
			settle,
			ack
		};
		const cancel = this.#clock.after(timeout, late);
		signal?.addEventListener("abort", abort);
		if (signal?.aborted) return abort();
		if (urgent) {
			if (!this.#send(entry.data, true)) return settle(lost());
			this.#sent.set(id, entry);
			return;
		}
		const oldest = this.#queue.values().next().value;
		this.#queue.set(id, entry);
		this.flush();
		if (this.#queue.size <= this.#limit) return;
		if (this.#policy === "refuse" || !oldest) settle(new TidegateError("queue_full", "Too many messages wait"));
		else oldest.settle(new TidegateError("dropped", "Newer ones took its place"));
	}
	/** Send what waits, as far as possible. */
	flush() {
		this.#cancel?.();
		this.#cancel = void 0;
		for (const [id, entry] of this.#queue) {
			if (!this.#send(entry.data)) {
				this.#cancel = this.#clock.after(BLOCKED, () => this.flush());
				return;
			}
			this.#queue.delete(id);
			if (entry.ack) this.#sent.set(id, entry);
			else entry.settle(void 0);
		}
	}
	/** An answer came, or an error that may be for nobody; says whether it was for a request. */
	answer(message) {
		const entry = this.#sent.get(message.id);
		if (message.type === "error") {
			const { code, message: text, retryAfter } = message;
			entry?.settle(new TidegateError(code, text, seconds(retryAfter)));
		} else entry?.settle(message);
		return !!entry;
	}
	/** The connection was lost: those that were sent fail, and those that wait still wait. */
	lost() {
		this.#cancel?.();
		for (const { settle } of [...this.#sent.values()]) settle(lost());
	}
	/** Nothing will be sent any more. */
	close(error) {
		for (const { settle } of [...this.#queue.values()]) settle(error);
	}
};
const lost = () => new TidegateError("connection_lost", "It was lost, or its answer was");

//#endregion
//#region src/room.ts
/** Seconds between two recoveries at least, so that a wrong server is not asked in a tight loop. */
const BETWEEN = 1;
/** A room. It is joined again after each reconnect, until `leave`. */
var Room = class extends Emitter {
	name;
	/** How many connections are members, as of the last join. */
	members = 0;
	/** Who is here, with the option `presence`. */
	users = /* @__PURE__ */ new Map();
	/** How many users are here, with the option `presence`. */
	count = 0;
	#host;
	#options = {};
	/** Why the client is to be a member: it has asked for it, or the server has put it there. */
	#wanted;
	#joined = false;
	#before = false;
	#epoch;
	#offset = 0;
	/** While messages of history come: the position that the room had when it was joined. */
	#replay = 0;
	/** Offsets of own messages that do not come back. */
	#own = /* @__PURE__ */ new Set();
	#recovering = false;
	#recovered = -BETWEEN;
	#waiters = [];
	/** @internal */
	constructor(name, host) {
		super();
		this.name = name;
		this.#host = host;
	}
	/** Whether the client is a member now. */
	get joined() {
		return this.#joined;
	}
	/** Where the client is in the room's history, if it keeps one. */
	get position() {
		return this.#epoch ? {
			epoch: this.#epoch,
			offset: this.#offset
		} : void 0;
	}
	/**
	* Become a member, now and after each reconnect.
	*
	* While the client is not connected this waits. It fails with the server's error, such as
	* `room_limit`; the room is then tried again after the next reconnect, unless you leave it.
	*/
	join(options = this.#options) {
		this.#options = options;
		this.#wanted = "asked";
		return new Promise((resolve, reject) => {
			this.#waiters.push({
				resolve,
				reject
			});
			if (this.#host.connection !== void 0 && !this.#recovering) this.#enter();
		});
	}
	/** Stop being a member. */
	leave() {
		const was = this.#joined;
		this.#joined = this.#before = false;
		this.#wanted = this.#epoch = void 0;
		this.#fail(new TidegateError("aborted", "The room was left"));
		return new Promise((resolve) => was ? this.#exit(resolve) : resolve());
	}
	/** Send a message to all members. The answer has its position where the room keeps history. */
	publish(data, options = {}) {
		const { echo, ...rest } = options;
		const message = {
			type: "room_message",
			room: this.name,
			data,
			echo
		};
		return this.#ask(message, rest, (ack) => {
			if (echo === false && ack?.offset) {
				this.#own.add(ack.offset);
				this.#skip();
			}
		});
	}
	/** Ask who is here. */
	presence(options = {}) {
		return this.#ask({
			type: "presence",
			room: this.name
		}, options);
	}
	/** Read the room's history: the last messages, or the first after a position. */
	history(options = {}) {
		const { limit, since, ...rest } = options;
		return this.#ask({
			type: "history",
			room: this.name,
			limit,
			since
		}, rest);
	}
	#ask(message, options, done) {
		return promised((settle) => {
			this.#host.call(message, options, false, (result) => {
				if (!(result instanceof TidegateError)) done?.(result);
				settle(result);
			});
		});
	}
	#exit(done) {
		this.#host.call({
			type: "leave",
			room: this.name
		}, {}, true, done);
	}
	/** A message of the server for this room. @internal */
	receive(message) {
		switch (message.type) {
			case "room_message": return this.#message(message);
			case "gap":
				if (!this.#epoch) this.emit("gap", { room: this.name });
				else this.#recover();
				return;
			case "joined":
				this.#joined = true;
				this.#wanted ??= "put";
				if (this.#epoch && message.offset !== this.#offset) this.#recover();
				else this.#settle(message, true);
				return;
			case "left":
				this.#joined = this.#before = false;
				this.#wanted = void 0;
				this.emit("left", { reason: String(message.reason) });
				return;
			case "presence_state":
			case "presence_count":
			case "user_joined":
			case "user_left": this.#presence(message);
		}
	}
	/** The client is connected, perhaps as a member already. @internal */
	connected(resumed) {
		if (!resumed) {
			if (this.#wanted === "asked") this.#enter();
		} else if (!this.#wanted) this.#exit(() => {});
		else {
			this.#joined = true;
			if (this.#epoch || this.#options.presence) this.#enter();
			else this.#announce({
				again: true,
				recovered: true,
				members: this.members
			});
		}
	}
	/** The connection was lost. @internal */
	lost() {
		this.#joined = this.#recovering = false;
		this.#own.clear();
	}
	/** The client is closed. @internal */
	closed(error) {
		this.#fail(error);
	}
	#message(message) {
		const { offset } = message;
		if (this.#recovering) return;
		if (this.#epoch && typeof offset === "number") {
			const old = offset > this.#offset && offset <= this.#replay + 1;
			if (offset !== this.#offset + 1 && !old) return this.#recover();
			this.#replay = 0;
			this.#offset = offset;
			this.#skip();
		}
		this.emit("message", message);
	}
	#skip() {
		while (this.#own.delete(this.#offset + 1)) this.#offset++;
	}
	/** Join again to get what was missed. */
	#recover() {
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
	#enter() {
		const { clock, connection } = this.#host;
		const { history, presence } = this.#options;
		const since = this.position;
		this.#recovering = !!since;
		this.#recovered = clock.now();
		const message = {
			type: "join",
			room: this.name,
			history,
			presence,
			since
		};
		this.#host.call(message, {}, true, (result) => {
			if (this.#host.connection !== connection) return;
			if (!(result instanceof TidegateError)) {
				const ack = result;
				if (!this.#wanted) return this.#exit(() => {});
				return this.#settle(ack, since ? ack.recovered === true : this.#joined || !this.#before);
			}
			if (result.retryAfter !== void 0) {
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
	#settle({ members = this.members, epoch, offset }, recovered) {
		this.#joined = true;
		this.members = members;
		this.#own.clear();
		if (typeof offset === "number" && (!this.#epoch || !recovered)) {
			this.#replay = offset;
			this.#offset = Math.max(0, offset - (this.#options.history ?? 0));
		}
		this.#epoch = epoch;
		this.#recovering = false;
		this.#announce({
			again: this.#before,
			recovered,
			members
		});
	}
	#announce(joined) {
		this.#before = true;
		this.emit("joined", joined);
		for (const { resolve } of this.#waiters.splice(0)) resolve(joined);
	}
	#fail(error) {
		for (const { reject } of this.#waiters.splice(0)) reject(error);
	}
	#presence({ type, users, count }) {
		if (type === "presence_state") this.users.clear();
		for (const user of users ?? []) if (typeof user === "string") this.users.delete(user);
		else this.users.set(user.user, user);
		this.count = count;
		this.emit("presence", {
			count,
			users: this.users
		});
	}
};

//#endregion
//#region src/client.ts
/** A connection to Tidegate that comes back by itself, when it is welcome. */
var Client = class extends Emitter {
	#url;
	#options;
	#codec;
	#clock;
	#backoff;
	#rooms = /* @__PURE__ */ new Map();
	#requests;
	#state = "closed";
	#link;
	#connection = 0;
	#settings;
	#failures = 0;
	#openedAt = 0;
	#slotAt = 0;
	/** Whether the server has said when to come back. */
	#held = false;
	#token;
	/** Whether the present token was asked for because the server had refused the one before. */
	#renewed = false;
	#session;
	#seq = 0;
	#cancel = () => {};
	#unwatch = () => {};
	constructor(url, options = {}) {
		super();
		this.#url = new URL(url, globalThis.location?.href);
		this.#url.protocol = this.#url.protocol.replace("http", "ws");
		this.#options = options;
		this.#codec = options.codec ?? json;
		this.#clock = options.clock ?? clock;
		this.#backoff = {
			base: 1,
			cap: 30,
			...options.backoff
		};
		const { queueSize = 100, queuePolicy = "refuse", maxBuffered = 1 << 20 } = options;
		this.#requests = new Requests(this.#clock, queueSize, queuePolicy, (data, urgent) => {
			const link = this.#link;
			if (!link || this.#state !== "open" || !urgent && link.buffered > maxBuffered) return false;
			link.send(data);
			return true;
		});
	}
	get state() {
		return this.#state;
	}
	/** What the client may do, as the server has said last. */
	get settings() {
		return this.#settings;
	}
	/** Connect, and stay connected until `close`. */
	connect() {
		if (this.#state !== "closed") return;
		this.#unwatch = watch(() => this.#changed());
		this.#failures = this.#slotAt = 0;
		this.#renewed = false;
		this.#move("start");
		this.#open();
	}
	/** Close the connection, and do not come back. Messages that wait are dropped. */
	close() {
		this.#link?.close();
		this.#session = void 0;
		this.#stop({ code: 1e3 });
	}
	/** A room; the same object for the same name. Nothing is sent before `join`. */
	room(name) {
		let room = this.#rooms.get(name);
		if (!room) {
			const client = this;
			room = new Room(name, {
				clock: this.#clock,
				get connection() {
					return client.#state === "open" ? client.#connection : void 0;
				},
				call: (message, options, urgent, done) => this.#call(message, options, urgent, done)
			});
			this.#rooms.set(name, room);
		}
		return room;
	}
	/** Join a room; the same as `room(name)` and `join`. */
	join(name, options) {
		const room = this.room(name);
		room.join(options).catch(() => {});
		return room;
	}
	/** Send a message to every connection of a user. */
	direct(user, data, options) {
		return this.request({
			type: "direct_message",
			user,
			data
		}, options);
	}
	/** Send a message to everybody, as an operator. */
	broadcast(data, options) {
		return this.request({
			type: "broadcast",
			data
		}, options);
	}
	/** Ask whether the server answers; the result is how many seconds it took. */
	async ping(options) {
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
	request(message, options = {}) {
		return this.#ask(message, options, false);
	}
	#ask(message, options, urgent) {
		return promised((done) => this.#call(message, options, urgent, done));
	}
	#call(message, options, urgent, done) {
		if (this.#state === "closed") return done(closed());
		const encode = (id) => {
			const data = this.#codec.encode({
				...message,
				id
			});
			const most = this.#settings?.maxMessageSize ?? Infinity;
			if (data.length * 3 > most && bytes(data) > most) throw new TidegateError("too_big", `A message has at most ${most} bytes`);
			return data;
		};
		this.#requests.add(encode, options, urgent, done);
	}
	#move(move, more) {
		const previous = this.#state;
		const state = MOVES[previous][move];
		if (!state) return;
		this.#state = state;
		this.emit("state", {
			state,
			previous,
			...more
		});
	}
	async #open() {
		if (this.#state !== "connecting" || this.#link) return;
		const connection = ++this.#connection;
		const lost = (loss) => {
			if (connection === this.#connection) this.#lost(loss);
		};
		const { token: source, connectTimeout = 15, maxMessageSize = 4 << 20 } = this.#options;
		this.#cancel = this.#clock.after(connectTimeout, () => {
			if (this.#link) this.#link.fail("timeout");
			else lost({
				code: 1006,
				error: "timeout"
			});
		});
		try {
			this.#token ??= typeof source === "function" ? await source() : source;
		} catch (error) {
			this.#error("token_failed", error);
			return lost({
				code: 1006,
				error: "token_failed"
			});
		}
		if (connection !== this.#connection) return;
		if (this.#renewed && !this.#token) return this.#stop({
			code: 4501,
			error: "unauthorized"
		});
		const protocols = [this.#codec.protocol];
		if (this.#token) protocols.push(`tidegate.token.${this.#token}`);
		if (this.#session) protocols.push(`tidegate.session.${this.#session}.${this.#seq}`);
		try {
			this.#link = new Link(new (this.#options.WebSocket ?? globalThis.WebSocket)(this.#url.href, protocols), this.#codec, this.#clock, maxMessageSize, (message) => this.#receive(message), lost);
		} catch (error) {
			this.#error("unsupported", error);
			this.#stop({
				code: 1006,
				error: "unsupported"
			});
		}
	}
	#receive(message) {
		const { type, route } = message;
		if (typeof route === "string") {
			this.#url.searchParams.delete("route");
			if (route) this.#url.searchParams.set("route", route);
		}
		if (type === "connected") return this.#connected(message);
		if (type === "queue_status") {
			if (this.#state === "open") return;
			this.#cancel();
			this.#move("queued");
			return this.emit("waiting", message);
		}
		if (this.#state !== "open") return;
		const room = this.#rooms.get(message.room);
		const asked = this.#requests.answer(message);
		switch (type) {
			case "error":
				if (!asked) this.emit("error", new TidegateError(String(message.code), String(message.message)));
				return;
			case "direct_message": {
				const { seq } = message;
				if (typeof seq === "number") {
					if (seq <= this.#seq) return;
					this.#seq = seq;
				}
				return this.emit("direct", message);
			}
			case "broadcast": return this.emit("broadcast", message);
			case "system":
				this.#apply(message.settings);
				return this.emit("system", message);
			case "server_shutdown":
				this.#slotAt = this.#clock.now() + (seconds(message.reconnectDelay) ?? 0);
				return this.emit("shutdown", message);
			case "token_expiring":
				this.#refresh();
				return;
			case "joined":
				if (!room) this.emit("room", this.room(String(message.room)));
				this.room(String(message.room)).receive(message);
				return;
			default: room?.receive(message);
		}
	}
	#connected(message) {
		if (this.#state === "open" || !this.#link) return;
		this.#cancel();
		this.#openedAt = this.#clock.now();
		this.#renewed = false;
		this.#session = message.session;
		if (!message.resumed) this.#seq = 0;
		this.#apply(message.settings);
		this.#move("connected");
		this.emit("connected", message);
		if (!this.#link) return;
		const rooms = new Set(message.resumed ? message.rooms : []);
		for (const name of rooms) this.room(name);
		for (const [name, room] of this.#rooms) room.connected(rooms.has(name));
		this.#requests.flush();
	}
	#apply(settings) {
		this.#settings = settings;
		const interval = seconds(settings?.pingInterval);
		this.#link?.watch(interval ? Math.max(1, interval) : void 0);
	}
	#lost(loss) {
		this.#detach();
		if (this.#state === "open" && this.#clock.now() - this.#openedAt >= (this.#options.stableAfter ?? 10)) this.#failures = 0;
		let then = next(loss);
		if (then === "token") {
			if (this.#renewed || typeof this.#options.token !== "function") return this.#stop(loss);
			this.#renewed = true;
			this.#token = void 0;
			then = {
				given: 0,
				slot: false
			};
		}
		if (then === "stop") return this.#stop(loss);
		this.#held = then.given > 0;
		const random = this.#clock.random();
		const wait = Math.max(delay(then, this.#failures++, random, this.#backoff), this.#slotAt - this.#clock.now());
		this.#slotAt = 0;
		this.#move("lost", {
			loss,
			delay: wait
		});
		if (this.#state === "backoff") this.#schedule(wait);
	}
	#schedule(wait) {
		this.#cancel();
		this.#cancel = this.#clock.after(wait, () => {
			this.#held = false;
			if (offline() && wait < this.#backoff.cap) return this.#schedule(this.#backoff.cap);
			this.#move("due");
			this.#open();
		});
	}
	/** The network came or went, or the page is shown again. */
	#changed() {
		if (this.#state === "open") this.#link?.probe();
		else if (this.#state === "backoff" && !this.#held && !offline()) this.#schedule(delay({
			given: 0,
			slot: false
		}, 0, this.#clock.random(), this.#backoff));
	}
	/** Get a new token, and show it on the open connection. */
	async #refresh() {
		const { token: source } = this.#options;
		if (typeof source !== "function") return;
		const connection = this.#connection;
		try {
			const token = await source();
			if (!token) return;
			this.#token = token;
			await this.#show(connection);
		} catch (error) {
			const { code } = error;
			if (code !== "connection_lost" && code !== "closed") this.#error("token_failed", error);
		}
	}
	async #show(connection) {
		if (connection !== this.#connection) return;
		try {
			await this.#ask({
				type: "auth",
				token: this.#token
			}, {}, true);
		} catch (error) {
			const { retryAfter } = error;
			if (retryAfter === void 0) throw error;
			await new Promise((resolve) => this.#clock.after(retryAfter, resolve));
			await this.#show(connection);
		}
	}
	#error(code, cause) {
		this.emit("error", new TidegateError(code, String(cause?.message ?? cause)));
	}
	#detach() {
		this.#cancel();
		this.#connection++;
		this.#link = void 0;
		this.#requests.lost();
		for (const room of this.#rooms.values()) room.lost();
	}
	#stop(loss) {
		this.#detach();
		this.#unwatch();
		this.#token = void 0;
		this.#move("stopped", { loss });
		this.#requests.close(closed());
		for (const room of this.#rooms.values()) room.closed(closed());
	}
};
const closed = () => new TidegateError("closed", "The client is closed");
const bytes = (data) => typeof data === "string" ? new TextEncoder().encode(data).length : data.length;
/** Make a client and connect it. */
function connect(url, options) {
	const client = new Client(url, options);
	client.connect();
	return client;
}

//#endregion
export { Client, MOVES, TidegateError, connect, json };