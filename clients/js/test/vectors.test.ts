/** The examples of every message, which the server's own tests use too. */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { json } from "../src/codec.js";
import { msgpack } from "../src/msgpack.js";
import { ROOT } from "./support/server.js";

interface Vector {
  value: unknown;
  json: string;
  msgpack: string;
}

const read = (name: string): Vector[] =>
  JSON.parse(readFileSync(`${ROOT}tests/vectors/${name}.json`, "utf8"));

const bytes = (hex: string): ArrayBuffer => new Uint8Array(Buffer.from(hex, "hex")).buffer;

/** In MessagePack a delta is bytes, and in JSON text. */
const text = (value: unknown): unknown => {
  const { delta } = value as { delta?: unknown };
  if (!(delta instanceof Uint8Array)) return value;
  return { ...(value as object), delta: new TextDecoder().decode(delta) };
};

describe.each(["client", "server"])("%s messages", (name) => {
  test.each(read(name).map((vector) => [vector.json, vector] as const))("%s", (_, vector) => {
    expect(json.decode(vector.json)).toEqual(vector.value);
    expect(json.decode(json.encode(vector.value) as string)).toEqual(vector.value);
    expect(text(msgpack.decode(bytes(vector.msgpack)))).toEqual(vector.value);
    const written = msgpack.encode(vector.value) as Uint8Array;
    expect(msgpack.decode(written.slice().buffer)).toEqual(vector.value);
    expect(written.length).toBeLessThanOrEqual(vector.msgpack.length / 2);
  });
});

test("the client writes its messages byte for byte as the server would", () => {
  for (const vector of read("client")) {
    expect(JSON.parse(json.encode(vector.value) as string)).toEqual(JSON.parse(vector.json));
    const floats = /[.]0|e/i.test(vector.json);
    const written = Buffer.from(msgpack.encode(vector.value) as Uint8Array).toString("hex");
    if (!floats) expect(written).toBe(vector.msgpack);
  }
});
