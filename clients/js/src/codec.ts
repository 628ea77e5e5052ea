/** How messages are written on the wire. */
export interface Codec {
  /** The WebSocket subprotocol. */
  readonly protocol: string;
  encode(value: unknown): string | Uint8Array<ArrayBuffer>;
  /** Raises an error if the data is not in the format. */
  decode(data: string | ArrayBuffer): unknown;
}

export const json: Codec = {
  protocol: "tidegate.v1.json",
  encode: JSON.stringify,
  // Anything but text is an error: the server writes JSON in text messages only.
  decode: (data) => JSON.parse(data as string),
};
