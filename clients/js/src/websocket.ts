/** The part of the WebSocket interface that the client uses. */
export interface WebSocketLike {
  binaryType: string;
  readonly bufferedAmount: number;
  onmessage: ((event: { data: any }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  onerror: ((event: any) => void) | null;
  send(data: string | Uint8Array<ArrayBuffer>): void;
  close(code?: number, reason?: string): void;
}

/** `WebSocket` of the platform, or a class like it, such as that of the package `ws`. */
export type WebSocketClass = new (url: string, protocols: string[]) => WebSocketLike;

/** What `ws` has in addition: pings and HTTP refusals can be seen. */
export interface NodeWebSocket extends WebSocketLike {
  on?(event: "ping", listener: () => void): void;
  on?(
    event: "unexpected-response",
    listener: (
      request: unknown,
      response: { statusCode: number; headers: Record<string, string | undefined> },
    ) => void,
  ): void;
  terminate?(): void;
}
