// Reads texts and their deltas, and prints as JSON what Fossil's JavaScript library makes of these
// deltas, and its own, in hex.
import { applyStringDelta, createDelta } from "fossil-delta";

const bytes = (text) => new TextEncoder().encode(text);
console.log(
  JSON.stringify(
    JSON.parse(process.argv[2]).map(({ old, new: to, delta }) => ({
      made: applyStringDelta(old, delta),
      theirs: Buffer.from(createDelta(bytes(old), bytes(to))).toString("hex"),
    })),
  ),
);
