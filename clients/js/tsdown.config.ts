import { defineConfig } from "tsdown";

export default defineConfig({
  entry: ["src/index.ts", "src/msgpack.ts"],
  format: ["esm", "cjs"],
  target: "es2022",
  platform: "neutral",
  dts: true,
  sourcemap: false,
});
