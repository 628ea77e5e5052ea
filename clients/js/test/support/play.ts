/** Plays the client's part of a scenario; ../../../scenarios/README.md describes it. */
import WebSocket from "ws";
import { Client, type ClientEvents, type ClientOptions, type Codec, type Room, TidegateError } from "../../src/index.js";
import { VirtualClock } from "./clock.js";

export type Step = Record<string, any>;

export interface Scenario {
  about: string;
  needs?: string[];
  options: Step;
  client: Step[];
}

/** Events that a scenario must tell of; others may be left out. */
const STRICT = ["state", "message", "direct", "broadcast", "waiting", "room", "joined", "left", "gap", "error"];
const CLIENT_EVENTS = ["state", "connected", "waiting", "direct", "broadcast", "system", "shutdown", "room", "error"];
const ROOM_EVENTS = ["message", "joined", "left", "presence", "gap", "error"];
/** Seconds to wait for anything, on a busy machine. */
const PATIENCE = 20;

const show = (value: unknown): string => JSON.stringify(value);

export function matches(pattern: any, value: any): boolean {
  if (Array.isArray(pattern))
    return (
      Array.isArray(value) &&
      value.length === pattern.length &&
      pattern.every((each, i) => matches(each, value[i]))
    );
  if (pattern && typeof pattern === "object")
    return (
      !!value &&
      Object.keys(pattern).every((key) => Object.hasOwn(value, key) && matches(pattern[key], value[key]))
    );
  return Object.is(pattern, value);
}

/** What has happened and was not asked for yet, by kind. */
class Log {
  readonly #queues = new Map<string, unknown[]>();
  #woken = () => {};

  add(kind: string, event: unknown): void {
    this.#queues.set(kind, [...(this.#queues.get(kind) ?? []), event]);
    this.#woken();
  }

  async next(kind: string): Promise<any> {
    const deadline = Date.now() + PATIENCE * 1000;
    while (!this.#queues.get(kind)?.length) {
      const left = deadline - Date.now();
      if (left <= 0) throw new Error(`${kind} did not come; there is ${show(this.rest())}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#woken = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    return this.#queues.get(kind)!.shift();
  }

  rest(): Record<string, unknown[]> {
    return Object.fromEntries([...this.#queues].filter(([, events]) => events.length));
  }
}

function tokens(list: any): ClientOptions["token"] {
  if (!Array.isArray(list)) return list;
  const left = [...list];
  return async () => {
    const token = left.shift();
    if (token?.fails) throw new Error(token.fails);
    if (token === undefined) throw new Error("the scenario has no more tokens");
    return token;
  };
}

export async function play(scenario: Scenario, url: string, codec: Codec): Promise<void> {
  const { token, random, base, cap, ...options } = scenario.options;
  const clock = new VirtualClock(random);
  if (token !== undefined) options.token = tokens(token);
  const client = new Client(url, {
    ...options,
    codec,
    clock,
    WebSocket,
  });
  const log = new Log();
  const rooms = new Map<string, Room>();
  const results = new Map<string, Promise<unknown>>();
  const aborts = new Map<string, AbortController>();

  const room = (name: string): Room => {
    const found = client.room(name);
    if (!rooms.has(name)) {
      rooms.set(name, found);
      for (const kind of ROOM_EVENTS)
        found.on(kind as "message", (event: any) =>
          log.add(
            `${kind} of ${name}`,
            kind === "presence" ? { count: event.count, users: [...event.users.keys()].sort() } : event,
          ),
        );
    }
    return found;
  };
  for (const kind of CLIENT_EVENTS)
    client.on(kind as keyof ClientEvents, (event: any) => {
      if (kind === "room") room(event.name);
      log.add(kind, kind === "room" ? { name: event.name } : event);
    });

  const actions: Record<string, (step: Step, request: { timeout?: number; signal: AbortSignal }) => unknown> = {
    connect: () => client.connect(),
    close: () => client.close(),
    join: ({ room: name, do: _, as, ...rest }) => room(name).join(rest),
    leave: ({ room: name }) => room(name).leave(),
    publish: ({ room: name, data, echo }, request) => room(name).publish(data, { echo, ...request }),
    history: ({ room: name, limit }, request) => room(name).history({ limit, ...request }),
    direct: ({ user, data }, request) => client.direct(user, data, request),
    ping: (_, request) => client.ping(request),
    abort: ({ as }) => aborts.get(as)?.abort(),
  };

  const run = async (step: Step): Promise<void> => {
    if ("state" in step) {
      const { state, delay, ...rest } = step;
      const event = await log.next("state");
      if (event.state !== state || !matches(rest, event.loss ?? {})) throw new Error(`it is ${show(event)}`);
      if (delay && !(event.delay >= delay.atLeast - 1e-6 && event.delay <= delay.atMost + 1e-6))
        throw new Error(`the delay is ${event.delay}`);
    } else if ("event" in step) {
      const event = await log.next(step.room ? `${step.event} of ${step.room}` : step.event);
      if (step.match && !matches(step.match, event)) throw new Error(`it is ${show(event)}`);
    } else if ("is" in step) {
      if (client.state !== step.is) throw new Error(`it is ${client.state}`);
    } else if ("arrived" in step) {
      await fetch(`${url.replace("ws", "http")}/arrived/${step.arrived}`);
    } else if ("advance" in step) {
      clock.advance(step.advance);
    } else if ("result" in step) {
      const result = results.get(step.result)!;
      const settled = await Promise.race([
        result.then(
          (value) => ({ value }),
          (error: TidegateError) => ({ error }),
        ),
        new Promise<never>((_, reject) =>
          setTimeout(() => reject(new Error("no result")), PATIENCE * 1000).unref(),
        ),
      ]);
      if ("error" in settled) {
        const { error } = settled;
        if (!(error instanceof TidegateError) || error.code !== step.fails) throw error;
        if (step.retryAfter !== undefined && error.retryAfter !== step.retryAfter)
          throw new Error(`retryAfter is ${error.retryAfter}`);
      } else if (step.fails || (step.match && !matches(step.match, settled.value)))
        throw new Error(`it is ${show(settled.value)}`);
    } else {
      const abort = new AbortController();
      const { timeout, ack } = step;
      const request = { signal: abort.signal, ...(timeout && { timeout }), ...(ack === false && { ack }) };
      const result = Promise.resolve(actions[step.do as string]!(step, request));
      result.catch(() => {});
      if (step.do === "abort" || !step.as) return;
      results.set(step.as, result);
      aborts.set(step.as, abort);
    }
  };

  client.connect();
  try {
    for (const [number, step] of scenario.client.entries()) {
      try {
        await run(step);
      } catch (error) {
        throw new Error(`step ${number + 1}, ${show(step)}: ${(error as Error).message}`);
      }
    }
  } finally {
    client.close();
  }
  const rest = Object.entries(log.rest()).filter(([kind]) => STRICT.includes(kind.split(" ")[0]!));
  if (rest.length) throw new Error(`unexpected events: ${show(rest)}`);
  if (clock.size) throw new Error(`${clock.size} timers are left`);
}
