/** Time and chance, which tests replace. All in seconds. */
export interface Clock {
  now(): number;
  /** Calls back once after so many seconds; returns a function that cancels this. */
  after(seconds: number, call: () => void): () => void;
  /** From 0 to 1. */
  random(): number;
}

export const clock: Clock = {
  now: () => performance.now() / 1000,
  after: (seconds, call) => {
    // Timers of more than 31 bits would go off at once.
    const timer = setTimeout(call, Math.min(seconds * 1000, 2 ** 31 - 1));
    return () => clearTimeout(timer);
  },
  random: Math.random,
};

interface Surroundings extends Partial<EventTarget> {
  navigator?: { onLine?: boolean };
  document?: Partial<EventTarget> & { visibilityState?: string };
}

const surroundings = globalThis as unknown as Surroundings;

/** Whether the browser says that there is no network. */
export const offline = (): boolean => surroundings.navigator?.onLine === false;

/** Calls back when the network comes or goes, and when a page is shown again. */
export function watch(changed: () => void): () => void {
  const { document } = surroundings;
  const listener = ({ type }: Event) => {
    if (type !== SHOWN || document?.visibilityState === "visible") changed();
  };
  const each = (method: "addEventListener" | "removeEventListener") => {
    surroundings[method]?.("online", listener);
    surroundings[method]?.("offline", listener);
    document?.[method]?.(SHOWN, listener);
  };
  each("addEventListener");
  return () => each("removeEventListener");
}

const SHOWN = "visibilitychange";
