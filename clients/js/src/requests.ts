import type { Clock } from "./environment.js";
import { TidegateError } from "./errors.js";
import type { Message } from "./messages.js";
import { seconds } from "./retry.js";

export interface RequestOptions {
  /** Seconds to wait for the answer, the time in the queue included; 10 by default. */
  timeout?: number | undefined;
  /** Gives up when it is aborted; a message that still waits is not sent any more. */
  signal?: AbortSignal | undefined;
  /** Whether to ask for an answer, true by default; without one, sending it is all. */
  ack?: boolean | undefined;
}

/** What happens when the queue is full: the message is refused, or the oldest one dropped. */
export type QueuePolicy = "refuse" | "drop_oldest";

type Bytes = string | Uint8Array<ArrayBuffer>;

/** What came of a request: its answer, an error, or nothing where none was asked for. */
export type Done = (result: Message | TidegateError | undefined) => void;

interface Entry {
  readonly data: Bytes;
  readonly settle: Done;
  readonly ack: boolean;
}

/** Calls with `done`, and returns a promise of what it is given. */
export const promised = <Reply>(call: (done: Done) => void): Promise<Reply> =>
  new Promise((resolve, reject) => {
    call((result) => {
      if (result instanceof TidegateError) reject(result);
      else resolve(result as Reply);
    });
  });

/** Seconds between two looks at a socket that has too much to send. */
const BLOCKED = 0.05;

/** Requests that wait to be sent, and those that wait for their answer. */
export class Requests {
  readonly #sent = new Map<unknown, Entry>();
  readonly #queue = new Map<number, Entry>();
  readonly #clock: Clock;
  readonly #limit: number;
  readonly #policy: QueuePolicy;
  readonly #send: (data: Bytes, urgent?: boolean) => boolean;
  #last = 0;
  #cancel: (() => void) | undefined;

  /** `send` says whether the data could go now. */
  constructor(
    clock: Clock,
    limit: number,
    policy: QueuePolicy,
    send: (data: Bytes, urgent?: boolean) => boolean,
  ) {
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
  add(
    encode: (id: number | undefined) => Bytes,
    { timeout = 10, signal, ack = true }: RequestOptions,
    urgent: boolean,
    done: Done,
  ): void {
    const id = ++this.#last;
    let data: Bytes;
    try {
      data = encode(ack ? id : undefined);
    } catch (error) {
      if (!(error instanceof TidegateError)) error = new TidegateError("bad_message", String(error));
      return done(error as TidegateError);
    }
    const settle: Done = (result) => {
      cancel();
      signal?.removeEventListener("abort", abort);
      this.#sent.delete(id);
      this.#queue.delete(id);
      done(result);
    };
    const abort = () => settle(new TidegateError("aborted", "It was aborted"));
    const late = () => settle(new TidegateError("timeout", "No answer in time"));
    const entry: Entry = { data, settle, ack };
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
    if (this.#policy === "refuse" || !oldest)
      settle(new TidegateError("queue_full", "Too many messages wait"));
    else oldest.settle(new TidegateError("dropped", "Newer ones took its place"));
  }

  /** Send what waits, as far as possible. */
  flush(): void {
    this.#cancel?.();
    this.#cancel = undefined;
    for (const [id, entry] of this.#queue) {
      if (!this.#send(entry.data)) {
        // There is no event for room in a WebSocket's buffer.
        this.#cancel = this.#clock.after(BLOCKED, () => this.flush());
        return;
      }
      this.#queue.delete(id);
      if (entry.ack) this.#sent.set(id, entry);
      else entry.settle(undefined);
    }
  }

  /** An answer came, or an error that may be for nobody; says whether it was for a request. */
  answer(message: Message): boolean {
    const entry = this.#sent.get(message.id);
    if (message.type === "error") {
      const { code, message: text, retryAfter } = message as unknown as TidegateError;
      entry?.settle(new TidegateError(code, text, seconds(retryAfter)));
    } else entry?.settle(message);
    return !!entry;
  }

  /** The connection was lost: those that were sent fail, and those that wait still wait. */
  lost(): void {
    this.#cancel?.();
    for (const { settle } of [...this.#sent.values()]) settle(lost());
  }

  /** Nothing will be sent any more. */
  close(error: TidegateError): void {
    for (const { settle } of [...this.#queue.values()]) settle(error);
  }
}

const lost = () =>
  new TidegateError("connection_lost", "It was lost, or its answer was");
