type Listener = (event: never) => void;

/** Listeners by name. */
export class Emitter<Events> {
  readonly #listeners = new Map<keyof Events, Set<Listener>>();

  /** Calls the listener on each such event; returns a function that ends this. */
  on<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void): () => void {
    const set = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, set.add(listener));
    return () => void set.delete(listener);
  }

  protected emit<Name extends keyof Events>(name: Name, event: Events[Name]): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      try {
        (listener as (event: Events[Name]) => void)(event);
      } catch (error) {
        // As for listeners of the platform: reported as uncaught, and nothing here is disturbed.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}
