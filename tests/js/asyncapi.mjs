// Reads an AsyncAPI document with the official parser and prints, as JSON, its errors and the
// messages that the server receives and sends.
import { readFileSync } from "node:fs";

import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], "utf8"));
const operations = document?.operations().all() ?? [];
const named = (action) =>
  operations
    .filter((operation) => operation.action() === action)
    .flatMap((operation) => operation.messages().all().map((message) => message.name()));
console.log(
  JSON.stringify({
    errors: diagnostics
      .filter(({ severity }) => severity === 0)
      .map(({ path, message }) => `${path.join(".")}: ${message}`),
    received: named("receive"),
    sent: named("send"),
  }),
);
