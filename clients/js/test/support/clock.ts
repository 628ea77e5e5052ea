import type { Clock } from "../../src/environment.js";

interface Timer {
  at: number;
  call: () => void;
}

/** A clock that stands still until it is moved. */
export class VirtualClock implements Clock {
  #now = 1000;
  #timers = new Set<Timer>();
  readonly #fixed: number | undefined;

  constructor(random?: number) {
    this.#fixed = random;
  }

  now(): number {
    return this.#now;
  }

  random(): number {
    return this.#fixed ?? Math.random();
  }

  after(seconds: number, call: () => void): () => void {
    const timer = { at: this.#now + seconds, call };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** How many timers are set. */
  get size(): number {
    return this.#timers.size;
  }

  advance(seconds: number): void {
    // Sums of seconds as binary fractions are a little off.
    const until = this.#now + seconds + 1e-9;
    for (;;) {
      const due = [...this.#timers].filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)[0];
      if (!due) break;
      this.#timers.delete(due);
      this.#now = Math.max(this.#now, due.at);
      due.call();
    }
    this.#now = until;
  }
}
