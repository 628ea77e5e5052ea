import type { NodeWebSocket } from "../../src/websocket.js";

/** A WebSocket of which the test is the other side. */
export class FakeSocket implements NodeWebSocket {
  static all: FakeSocket[] = [];
  static get last(): FakeSocket {
    return FakeSocket.all.at(-1)!;
  }

  binaryType = "blob";
  bufferedAmount = 0;
  onmessage: NodeWebSocket["onmessage"] = null;
  onclose: NodeWebSocket["onclose"] = null;
  onerror: NodeWebSocket["onerror"] = null;
  readonly sent: any[] = [];
  closed: number | undefined | null = null;

  constructor(
    readonly url: string,
    readonly protocols: string[],
  ) {
    FakeSocket.all.push(this);
  }

  send(data: string): void {
    this.sent.push(JSON.parse(data));
  }

  close(code?: number): void {
    this.closed = code;
  }

  receive(message: object): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }

  connected(more: object = {}): void {
    this.receive({
      type: "connected",
      connectionId: "c1",
      userId: null,
      settings: { pingInterval: 30, maxMessageSize: 65536, messagesPerSecond: 0, broadcast: true },
      ...more,
    });
  }

  drop(code = 1006, reason = ""): void {
    this.onclose?.({ code, reason });
  }
}
