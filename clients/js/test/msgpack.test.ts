import fc from "fast-check";
import { expect, test } from "vitest";
import { msgpack } from "../src/msgpack.js";

const copy = (value: unknown): unknown =>
  msgpack.decode((msgpack.encode(value) as Uint8Array<ArrayBuffer>).slice().buffer);
const read = (hex: string): unknown => msgpack.decode(new Uint8Array(Buffer.from(hex, "hex")).buffer);
const write = (value: unknown): string => Buffer.from(msgpack.encode(value) as Uint8Array).toString("hex");

function survives<T>(values: fc.Arbitrary<T>, read: (value: unknown) => unknown = (value) => value): void {
  fc.assert(
    fc.property(values, (value) => {
      expect(read(copy(value))).toEqual(value);
    }),
  );
}

test("any JSON value survives", () => {
  survives(fc.jsonValue());
});

test("any number survives, and any whole number of 64 bits", () => {
  survives(fc.double());
  survives(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n }), (value) => BigInt(value as bigint));
});

test("bytes and times survive", () => {
  survives(fc.uint8Array());
  survives(fc.date({ noInvalidDate: true }));
  expect(copy(new Uint8Array([1, 2]).buffer)).toEqual(new Uint8Array([1, 2]));
  expect(copy(new Map([["a", 1]]))).toEqual({ a: 1 });
});

test.each([
  ["d6ff00000001", new Date(1000)],
  ["d7ff001e848000000001", new Date(1000)],
  ["ca3fc00000", 1.5],
  ["c403010203", new Uint8Array([1, 2, 3])],
  ["de0001a16101", { a: 1 }],
  ["df00000001a16101", { a: 1 }],
  ["dd0000000101", [1]],
  ["d9036e6f77", "now"],
  ["8101a161", { 1: "a" }],
])("reads %s", (hex, value) => {
  expect(read(hex)).toEqual(value);
});

test.each([
  [0, "00"],
  [127, "7f"],
  [128, "cc80"],
  [65535, "cdffff"],
  [65536, "ce00010000"],
  [2 ** 32, "cf0000000100000000"],
  [-32, "e0"],
  [-33, "d0df"],
  [-129, "d1ff7f"],
  [-32769, "d2ffff7fff"],
  [-(2 ** 31) - 1, "d3ffffffff7fffffff"],
  [-0, "cb8000000000000000"],
  ["x".repeat(32), `d920${"78".repeat(32)}`],
  [{ a: undefined, b: 1 }, "81a16201"],
  [[undefined], "91c0"],
])("writes %s in as few bytes as possible", (value, hex) => {
  expect(write(value)).toBe(hex);
});

test.each(["", "c1", "91", "a5616263", "dfffffffff", "ddffffffff", "c6ffffffff", "c70005", "0101", "a1ff", "d500ffff"])(
  "%s is no message",
  (hex) => {
    expect(() => read(hex)).toThrow();
  },
);

test("no bytes are read beyond the message, whatever they say", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (octets) => {
      try {
        msgpack.decode(octets.slice().buffer);
      } catch (error) {
        expect(error).toBeInstanceOf(Error);
      }
    }),
    { numRuns: 2000 },
  );
});

test("what is nested too deeply is refused both ways, without exhausting the stack", () => {
  expect(() => read("91".repeat(100_000))).toThrow(/Nested/);
  let deep: unknown = null;
  for (let i = 0; i < 100_000; i++) deep = [deep];
  expect(() => msgpack.encode(deep)).toThrow(/Nested/);
});

test("a key `__proto__` is a key like any other", () => {
  const value = copy(JSON.parse('{"__proto__": {"polluted": true}}')) as object;
  expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
  expect(JSON.stringify(value)).toBe('{"__proto__":{"polluted":true}}');
});
