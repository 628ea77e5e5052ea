/** What the client does after a loss, against the server's own table of codes. */
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { delay, FLOOR, next } from "../src/retry.js";
import { ROOT } from "./support/server.js";

interface Row {
  name: string;
  code: number;
  status?: number;
  retryAfter: number | null;
}

const { refusals, closes } = JSON.parse(
  readFileSync(`${ROOT}docs/reference/codes.json`, "utf8"),
) as Record<string, Row[]>;
const backoff = { base: 1, cap: 30 };

describe("every reason of the table", () => {
  const rows = [...refusals!, ...closes!];

  test.each(rows.map((row) => [row.name, row] as const))("%s by its name", (_, row) => {
    const { name: error, code, retryAfter } = row;
    const then = next({ code, error, retryAfter });
    if (code === 4501) expect(then).toBe("token");
    else if (retryAfter === null) expect(then).toBe("stop");
    else expect(then).toMatchObject({ given: retryAfter });
  });

  test.each(rows.map((row) => [row.name, row] as const))("%s by its code alone", (_, { code }) => {
    const usual = rows.find((row) => row.code === code)!.retryAfter;
    const then = next({ code });
    if (code === 4501) expect(then).toBe("token");
    else if (code === 1006) expect(then).toEqual({ given: 0, slot: false });
    else if (usual === null) expect(then).toBe("stop");
    else expect(then).toEqual({ given: usual, slot: false });
  });

  test.each(refusals!.map((row) => [row.name, row] as const))("%s by HTTP", (_, row) => {
    const { name: error, status, retryAfter } = row;
    const then = next({ code: 1006, status, error, retryAfter });
    if (status === 401) expect(then).toBe("token");
    else if (retryAfter === null) expect(then).toBe("stop");
    else expect(then).toMatchObject({ given: retryAfter });
  });
});

const loss = fc.record({
  code: fc.integer({ min: 0, max: 65535 }),
  error: fc.option(fc.constantFrom("rate_limited", "drained", "server_limit"), { nil: undefined }),
  retryAfter: fc.oneof(fc.double(), fc.constantFrom(undefined, 0, -1, Number.NaN, Infinity)),
});
const failures = fc.nat({ max: 5000 });
const random = fc.double({ min: 0, max: 1, noNaN: true });

test("no delay is ever zero, endless, or sooner than the server has said", () => {
  fc.assert(
    fc.property(loss, failures, random, (lost, count, dice) => {
      const then = next(lost);
      if (typeof then === "string") return;
      const seconds = delay(then, count, dice, backoff);
      expect(seconds).toBeGreaterThanOrEqual(FLOOR);
      expect(seconds).toBeGreaterThanOrEqual(then.given);
      expect(seconds).toBeLessThanOrEqual(Math.max(then.given + backoff.cap, FLOOR));
    }),
  );
});

test("a slot of a second or more is kept to exactly, however often it failed", () => {
  fc.assert(
    fc.property(fc.double({ min: 1, max: 3600, noNaN: true }), failures, random, (given, count, dice) => {
      expect(delay({ given, slot: true }, count, dice, backoff)).toBe(given);
    }),
  );
});

test("reasons that are no objects or have other types never break it", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1000, max: 4999 }), fc.anything(), fc.anything(), (code, error, after) => {
      const then = next({ code, error: error as string, retryAfter: after as number });
      if (typeof then === "object") expect(then.given).toBeGreaterThanOrEqual(0);
    }),
  );
});
