import { CODES } from "./codes.js";

/** How a connection ended. */
export interface Loss {
  /** The WebSocket close code; 1006 where there was no close frame. */
  readonly code: number;
  /** The reason's name in the table of codes, or one of the client's own. */
  readonly error?: string | undefined;
  /** What is wrong, for people. */
  readonly detail?: string | undefined;
  /** Seconds that the server wants the client to stay away; null if it is not to come back. */
  readonly retryAfter?: number | null | undefined;
  /** The HTTP status of a refusal, where the WebSocket shows it (`ws` does, browsers do not). */
  readonly status?: number | undefined;
}

/** What follows: give up, come back with a new token, or come back after a delay of the server's. */
export type Next = "stop" | "token" | { readonly given: number; readonly slot: boolean };

/** The shortest delay, in seconds. */
export const FLOOR = 0.1;
/** The longest delay that a server can ask for, in seconds. */
const LONGEST = 3600;

/** A number of seconds from the server, if it is one; an hour at most. */
export const seconds = (value: unknown): number | undefined =>
  typeof value === "number" && value >= 0 ? Math.min(value, LONGEST) : undefined;

/** Whether to come back after a loss, as the table of codes says. */
export function next({ code, error, retryAfter, status }: Loss): Next {
  if (code === 4501 || status === 401) return "token";
  const usual = CODES.get(code);
  if (
    retryAfter === null ||
    usual === null ||
    (code >= 4500 && code < 5000) ||
    (status && status < 500 && status !== 408 && status !== 429)
  )
    return "stop";
  const given = seconds(retryAfter);
  return {
    given: given ?? usual ?? 0,
    // These delays are this client's own, so nobody else comes back then.
    slot: given !== undefined && (error === "rate_limited" || error === "drained"),
  };
}

/**
 * Seconds until the next attempt: the server's delay and, unless that is a slot of this client's own,
 * a random part of a second (`base`), which doubles with each failure up to `cap`.
 *
 * @param failures Failures in a row before this one.
 * @param random From 0 to 1.
 */
export function delay(
  { given, slot }: Exclude<Next, string>,
  failures: number,
  random: number,
  { base, cap }: { base: number; cap: number },
): number {
  const jitter = Math.max(FLOOR, random * Math.min(cap, base * 2 ** failures));
  if (!slot) return given + jitter;
  // A server that gives slots of no length must not be asked in a tight loop.
  return Math.max(given, given >= base ? 0 : failures ? jitter : FLOOR);
}
