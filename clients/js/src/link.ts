import type { Codec } from "./codec.js";
import type { Clock } from "./environment.js";
import type { Message } from "./messages.js";
import { type Loss, seconds } from "./retry.js";
import type { NodeWebSocket } from "./websocket.js";

/** Seconds within which a silent server must show a sign of life when it is asked for one. */
const PATIENCE = 10;

const nothing = () => {};

/** One WebSocket, from the first byte to its loss, and whether the server is still there. */
export class Link {
  readonly #socket: NodeWebSocket;
  readonly #codec: Codec;
  readonly #clock: Clock;
  readonly #lost: (loss: Loss) => void;
  #interval = 30;
  #cancel = nothing;

  constructor(
    socket: NodeWebSocket,
    codec: Codec,
    clock: Clock,
    maxSize: number,
    message: (message: Message) => void,
    lost: (loss: Loss) => void,
  ) {
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
        const value = codec.decode(data) as Message;
        if (typeof value.type !== "string") throw 0;
        message(value);
      } catch {
        this.fail("bad_message");
      }
    };
    socket.onclose = ({ code, reason }) => this.#end({ ...parse(reason), code });
    socket.on?.("ping", () => this.watch());
    socket.on?.("unexpected-response", (_, { statusCode, headers }) => {
      const error = headers["x-rejection-reason"];
      // Our own refusals without a delay mean: do not come back.
      const retryAfter = seconds(Number.parseFloat(headers["retry-after"]!)) ?? (error ? null : undefined);
      this.#end({ code: 1006, status: statusCode, error, retryAfter });
      this.#abort();
    });
  }

  /** Bytes that wait to be sent. */
  get buffered(): number {
    return this.#socket.bufferedAmount;
  }

  send(data: string | Uint8Array<ArrayBuffer>): void {
    try {
      this.#socket.send(data);
    } catch {
      // It is closing: `lost` follows.
    }
  }

  /** There was a sign of life; after so many seconds of silence the server is asked for one. */
  watch(interval = this.#interval): void {
    this.#interval = interval;
    this.#wait(interval, () => this.probe());
  }

  /** Find out now whether the server is still there. */
  probe(): void {
    this.send(this.#codec.encode({ type: "health_ping" }));
    this.#wait(PATIENCE, () => this.fail("timeout"));
  }

  /** Close from this side; nothing is reported. */
  close(): void {
    this.#detach();
    this.#socket.close(1000);
  }

  /** Cut the connection, and report it as lost. */
  fail(error: string): void {
    this.#end({ code: 1006, error });
    this.#abort();
  }

  #wait(seconds: number, then: () => void): void {
    this.#cancel();
    this.#cancel = this.#clock.after(seconds, then);
  }

  #end(loss: Loss): void {
    this.#detach();
    this.#lost(loss);
  }

  #abort(): void {
    // Not by a close frame where that can be avoided: it would end the session.
    (this.#socket.terminate ?? this.#socket.close).call(this.#socket);
  }

  #detach(): void {
    this.#cancel();
    const socket = this.#socket;
    socket.onmessage = socket.onclose = null;
    // `ws` raises an error that nobody listens to.
    socket.onerror = nothing;
  }
}

/** The reason of a close frame: JSON in our form, or text. */
function parse(reason: string): Omit<Loss, "code"> {
  try {
    return { ...JSON.parse(reason), status: undefined };
  } catch {
    return { detail: reason || undefined };
  }
}
