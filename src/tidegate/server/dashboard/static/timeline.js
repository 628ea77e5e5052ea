// The samples of the last ten minutes, kept up to date once a second, and what charts make of them.

import { ask } from "./api.js";

const MOST = 600;

export class Timeline {
  moments = [];
  listeners = new Set();

  async poll() {
    const last = this.moments.at(-1)?.at ?? 0;
    const { moments } = await ask(`/timeline?since=${last}`);
    this.moments.push(...moments);
    this.moments.splice(0, this.moments.length - MOST);
    for (const listener of this.listeners) listener(this);
  }

  get times() { return this.moments.map((moment) => moment.at); }

  level(read) { return this.moments.map((moment) => read(moment.sample, moment)); }

  // A second's share of what a counter grew since the sample before.
  rate(read) {
    return this.moments.map((moment, index) => {
      const before = this.moments[index - 1];
      if (!before || moment.at <= before.at) return null;
      const grown = read(moment.sample) - read(before.sample);
      return grown < 0 ? null : grown / (moment.at - before.at);
    });
  }

  now(read) { return this.moments.length ? read(this.moments.at(-1).sample) : 0; }

  keys(read) {
    const found = new Set();
    for (const { sample } of this.moments) for (const key of Object.keys(read(sample))) found.add(key);
    return [...found].sort();
  }
}
