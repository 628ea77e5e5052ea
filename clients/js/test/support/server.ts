import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));

export const SCENARIOS = path("../../../scenarios/");
export const ROOT = path("../../../../");

const python = (): string => {
  const own = `${ROOT}.venv/bin/python`;
  return process.env.PYTHON ?? (existsSync(own) ? own : "python3");
};

/** Starts the server of the scenarios; returns its process and its port. */
export async function startServer(): Promise<{ process: ChildProcess; port: number }> {
  const child = spawn(python(), [`${SCENARIOS}server.py`], { stdio: ["pipe", "pipe", "inherit"] });
  const port = await new Promise<number>((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`the server of the scenarios ended with ${code}`)));
    child.stdout.once("data", (line) => resolve(Number(line)));
  });
  return { process: child, port };
}
