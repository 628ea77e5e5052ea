/**
 * MessagePack for `connect(url, { codec: msgpack })`: smaller than JSON, and `data` may hold bytes.
 *
 * Bytes are `Uint8Array`, timestamps `Date`; whole numbers beyond 2^53 are `BigInt`. See
 * https://github.com/msgpack/msgpack/blob/master/spec.md
 */
import type { Codec } from "./codec.js";

/** Levels of lists and maps, so that no message exhausts the stack. */
const DEPTH = 500;
const TIMESTAMP = -1;

const utf8 = new TextEncoder();
const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export const msgpack: Codec = {
  protocol: "tidegate.v1.msgpack",
  encode: (value) => new Writer().write(value),
  decode: (data) => {
    if (typeof data === "string") throw new TypeError("MessagePack comes in binary messages");
    return new Reader(new DataView(data)).read();
  },
};

class Writer {
  #bytes = new Uint8Array(256);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  write(value: unknown): Uint8Array<ArrayBuffer> {
    this.#value(value, 0);
    return this.#bytes.subarray(0, this.#length);
  }

  /** Makes room for so many bytes and returns where they begin. */
  #take(count: number): number {
    const start = this.#length;
    this.#length += count;
    if (this.#length > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(this.#length, 2 * this.#bytes.length));
      grown.set(this.#bytes);
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    return start;
  }

  #byte(value: number): void {
    const at = this.#take(1);
    this.#bytes[at] = value;
  }

  #raw(bytes: Uint8Array): void {
    const at = this.#take(bytes.length);
    this.#bytes.set(bytes, at);
  }

  /** A type and a size in as few bytes as possible; `first8` is 0 where there is no form of 8 bits. */
  #head(size: number, fix: number, most: number, first8: number, first16: number): void {
    if (size <= most) this.#byte(fix | size);
    else if (first8 && size < 0x100) {
      this.#byte(first8);
      this.#byte(size);
    } else if (size < 0x10000) {
      this.#byte(first16);
      const at = this.#take(2);
      this.#view.setUint16(at, size);
    } else {
      this.#byte(first16 + 1);
      const at = this.#take(4);
      this.#view.setUint32(at, size);
    }
  }

  #value(value: unknown, depth: number): void {
    if (depth > DEPTH) throw new RangeError(`Nested deeper than ${DEPTH} levels`);
    switch (typeof value) {
      case "string": {
        const bytes = utf8.encode(value);
        this.#head(bytes.length, 0xa0, 31, 0xd9, 0xda);
        return this.#raw(bytes);
      }
      case "number":
        return Number.isSafeInteger(value) && !Object.is(value, -0)
          ? this.#integer(value)
          : this.#float(value);
      case "bigint":
        return this.#big(value);
      case "boolean":
        return this.#byte(value ? 0xc3 : 0xc2);
      case "object":
        return this.#object(value, depth);
      default:
        // As in JSON: `undefined`, functions and symbols in a list are null.
        return this.#byte(0xc0);
    }
  }

  #object(value: object | null, depth: number): void {
    if (value === null) return this.#byte(0xc0);
    if (Array.isArray(value)) {
      this.#head(value.length, 0x90, 15, 0, 0xdc);
      for (const item of value) this.#value(item, depth + 1);
    } else if (value instanceof Date) this.#date(value);
    else if (value instanceof ArrayBuffer) this.#object(new Uint8Array(value), depth);
    else if (ArrayBuffer.isView(value)) {
      this.#head(value.byteLength, 0, -1, 0xc4, 0xc5);
      this.#raw(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
    } else {
      const entries = [...(value instanceof Map ? value : Object.entries(value))];
      const present = entries.filter(([, item]) => item !== undefined);
      this.#head(present.length, 0x80, 15, 0, 0xde);
      for (const [key, item] of present) {
        this.#value(key, depth + 1);
        this.#value(item, depth + 1);
      }
    }
  }

  #integer(value: number): void {
    if (value >= 0) {
      if (value < 0x80) this.#byte(value);
      else if (value < 0x100) {
        this.#byte(0xcc);
        this.#byte(value);
      } else if (value < 0x10000) this.#sized(0xcd, 2, (at) => this.#view.setUint16(at, value));
      else if (value < 0x100000000) this.#sized(0xce, 4, (at) => this.#view.setUint32(at, value));
      else this.#big(BigInt(value));
    } else if (value >= -0x20) this.#byte(value & 0xff);
    else if (value >= -0x80) this.#sized(0xd0, 1, (at) => this.#view.setInt8(at, value));
    else if (value >= -0x8000) this.#sized(0xd1, 2, (at) => this.#view.setInt16(at, value));
    else if (value >= -0x80000000) this.#sized(0xd2, 4, (at) => this.#view.setInt32(at, value));
    else this.#big(BigInt(value));
  }

  #big(value: bigint): void {
    if (value >= 2n ** 64n || value < -(2n ** 63n)) throw new RangeError("A whole number of more than 64 bits");
    if (value < 0n) this.#sized(0xd3, 8, (at) => this.#view.setBigInt64(at, value));
    else this.#sized(0xcf, 8, (at) => this.#view.setBigUint64(at, value));
  }

  #float(value: number): void {
    this.#sized(0xcb, 8, (at) => this.#view.setFloat64(at, value));
  }

  #sized(first: number, size: number, set: (at: number) => void): void {
    this.#byte(first);
    set(this.#take(size));
  }

  #date(value: Date): void {
    const milliseconds = value.getTime();
    if (Number.isNaN(milliseconds)) return this.#byte(0xc0);
    const seconds = Math.floor(milliseconds / 1000);
    this.#byte(0xc7);
    this.#byte(12);
    this.#byte(TIMESTAMP & 0xff);
    const at = this.#take(12);
    this.#view.setUint32(at, (milliseconds - seconds * 1000) * 1e6);
    this.#view.setBigInt64(at + 4, BigInt(seconds));
  }
}

class Reader {
  #at = 0;
  readonly #view: DataView<ArrayBuffer>;

  constructor(view: DataView<ArrayBuffer>) {
    this.#view = view;
  }

  read(): unknown {
    const value = this.#value(0);
    if (this.#at !== this.#view.byteLength) throw new RangeError("Bytes follow the message");
    return value;
  }

  /** Where the next bytes are. Reading them raises a RangeError behind the end. */
  #take(count: number): number {
    const start = this.#at;
    this.#at += count;
    return start;
  }

  #size(width: number): number {
    const at = this.#take(width);
    if (width === 1) return this.#view.getUint8(at);
    return width === 2 ? this.#view.getUint16(at) : this.#view.getUint32(at);
  }

  #bytes(size: number): Uint8Array<ArrayBuffer> {
    const at = this.#take(size);
    return new Uint8Array(this.#view.buffer, this.#view.byteOffset + at, size);
  }

  #value(depth: number): unknown {
    if (depth > DEPTH) throw new RangeError(`Nested deeper than ${DEPTH} levels`);
    const first = this.#size(1);
    if (first < 0x80) return first;
    if (first < 0x90) return this.#map(first & 15, depth);
    if (first < 0xa0) return this.#list(first & 15, depth);
    if (first < 0xc0) return text.decode(this.#bytes(first & 31));
    if (first >= 0xe0) return first - 0x100;
    const view = this.#view;
    switch (first) {
      case 0xc0:
        return null;
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xc4:
      case 0xc5:
      case 0xc6:
        return this.#bytes(this.#size(1 << (first - 0xc4))).slice();
      case 0xc7:
      case 0xc8:
      case 0xc9:
        return this.#extension(this.#size(1 << (first - 0xc7)));
      case 0xca:
        return view.getFloat32(this.#take(4));
      case 0xcb:
        return view.getFloat64(this.#take(8));
      case 0xcc:
      case 0xcd:
      case 0xce:
        return this.#size(1 << (first - 0xcc));
      case 0xcf:
        return small(view.getBigUint64(this.#take(8)));
      case 0xd0:
        return view.getInt8(this.#take(1));
      case 0xd1:
        return view.getInt16(this.#take(2));
      case 0xd2:
        return view.getInt32(this.#take(4));
      case 0xd3:
        return small(view.getBigInt64(this.#take(8)));
      case 0xd4:
      case 0xd5:
      case 0xd6:
      case 0xd7:
      case 0xd8:
        return this.#extension(1 << (first - 0xd4));
      case 0xd9:
      case 0xda:
      case 0xdb:
        return text.decode(this.#bytes(this.#size(1 << (first - 0xd9))));
      case 0xdc:
      case 0xdd:
        return this.#list(this.#size(2 << (first - 0xdc)), depth);
      case 0xde:
      case 0xdf:
        return this.#map(this.#size(2 << (first - 0xde)), depth);
      default:
        throw new RangeError("0xc1 is not used in MessagePack");
    }
  }

  #list(size: number, depth: number): unknown[] {
    const list = [];
    for (let i = 0; i < size; i++) list.push(this.#value(depth + 1));
    return list;
  }

  #map(size: number, depth: number): Record<string, unknown> {
    const map: Record<string, unknown> = {};
    for (let i = 0; i < size; i++) {
      const key = String(this.#value(depth + 1));
      const value = this.#value(depth + 1);
      // Assigned, `__proto__` would change the object's prototype.
      if (key === "__proto__")
        Object.defineProperty(map, key, { value, enumerable: true, configurable: true, writable: true });
      else map[key] = value;
    }
    return map;
  }

  #extension(size: number): unknown {
    const view = this.#view;
    const type = view.getInt8(this.#take(1));
    const at = this.#take(size);
    if (type === TIMESTAMP && size === 4) return new Date(view.getUint32(at) * 1000);
    if (type === TIMESTAMP && size === 8) {
      const value = view.getBigUint64(at);
      return new Date(Number(value & 0x3ffffffffn) * 1000 + Number(value >> 34n) / 1e6);
    }
    if (type === TIMESTAMP && size === 12)
      return new Date(Number(view.getBigInt64(at + 4)) * 1000 + view.getUint32(at) / 1e6);
    throw new RangeError(`An extension of type ${type} that is not known`);
  }
}

const small = (value: bigint): number | bigint => {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
};
