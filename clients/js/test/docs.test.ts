/** The code of the pages and the examples has the types that it should have. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { ROOT } from "./support/server.js";

const PAGES = ["docs/guide/javascript-client.md", "clients/js/README.md"];
const FOLDER = `${ROOT}clients/js/`;

test("the code of the pages has the right types", () => {
  const folder = mkdtempSync(`${FOLDER}node_modules/.docs-`);
  try {
    let count = 0;
    for (const page of PAGES)
      for (const [, code] of readFileSync(ROOT + page, "utf8").matchAll(/```ts\n([^]*?)```/g))
        writeFileSync(`${folder}/${count++}.ts`, code!);
    expect(count).toBeGreaterThan(4);
    const config = {
      extends: "../../tsconfig.json",
      compilerOptions: {
        baseUrl: ".",
        noUnusedLocals: false,
        paths: { tidegate: ["../../src/index.ts"], "tidegate/msgpack": ["../../src/msgpack.ts"] },
      },
      include: ["*.ts"],
    };
    writeFileSync(`${folder}/tsconfig.json`, JSON.stringify(config));
    const tsc = `${FOLDER}node_modules/typescript/bin/tsc`;
    execFileSync(process.execPath, [tsc, "-p", folder], { encoding: "utf8", stdio: "pipe" });
  } catch (error) {
    throw new Error((error as { stdout?: string }).stdout || String(error));
  } finally {
    rmSync(folder, { recursive: true });
  }
});
