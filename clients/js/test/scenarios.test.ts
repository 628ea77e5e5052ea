import type { ChildProcess } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { json } from "../src/codec.js";
import { msgpack } from "../src/msgpack.js";
import { play } from "./support/play.js";
import { SCENARIOS, startServer } from "./support/server.js";

let server: ChildProcess;
let port: number;

beforeAll(async () => {
  ({ process: server, port } = await startServer());
});
afterAll(() => server.stdin?.end());

const names = readdirSync(SCENARIOS)
  .filter((name) => name.endsWith(".json"))
  .map((name) => name.slice(0, -5));

describe.each([
  ["JSON", json],
  ["MessagePack", msgpack],
] as const)("in %s", (run, codec) => {
  test.concurrent.each(names)("%s", async (name) => {
    const scenario = JSON.parse(readFileSync(`${SCENARIOS}${name}.json`, "utf8"));
    const base = `127.0.0.1:${port}/${name}/${run}`;
    let failed: unknown;
    await play(scenario, `ws://${base}`, codec).catch((error) => {
      failed = error;
    });
    const report = await (await fetch(`http://${base}/report`)).json();
    expect([...(failed ? [String(failed)] : []), ...report.problems]).toEqual([]);
  });
});
