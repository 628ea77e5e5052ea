/*
 * The states of a client, as a table. `backoff` is the time between two attempts; `closed` is where
 * a client begins, and where it stays when the server does not want it back.
 *
 *     closed ── start ──▶ connecting ── connected ──▶ open
 *                          ▲  │   │                   │ ▲
 *                         due │   └─ queued ▶ waiting ┼─┘ connected
 *                          │ lost                │    │
 *                         backoff ◀────── lost ──┴────┘       stopped, from all of them ──▶ closed
 */
export type State = "closed" | "connecting" | "waiting" | "open" | "backoff";
export type Move = "start" | "queued" | "connected" | "lost" | "due" | "stopped";

export const MOVES: Readonly<Record<State, Readonly<Partial<Record<Move, State>>>>> = {
  closed: { start: "connecting" },
  connecting: { queued: "waiting", connected: "open", lost: "backoff", stopped: "closed" },
  waiting: { connected: "open", lost: "backoff", stopped: "closed" },
  open: { lost: "backoff", stopped: "closed" },
  backoff: { due: "connecting", stopped: "closed" },
};
