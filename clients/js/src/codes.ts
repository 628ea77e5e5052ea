// Written by tools/generate.py from the table of codes: change it there.

/** Seconds after which to come back, by close code; null for not at all. */
export const CODES: ReadonlyMap<number, number | null> = new Map([
  [1000, null],
  [1001, 5],
  [1002, null],
  [1007, null],
  [1008, null],
  [1009, null],
  [1011, 5],
  [1012, 5],
  [1013, 5],
  [4002, 10],
  [4008, 5],
  [4009, 5],
  [4010, 1],
]);
