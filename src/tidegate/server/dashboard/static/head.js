// What every page has in its head: how the server is; and work that is repeated.

import { ask, Failure } from "./api.js";

const state = document.getElementById("state");

function lost(error) {
  state.textContent = error instanceof Failure ? error.message : "The server does not answer";
  state.className = "bad";
}

// Repeats some work until it is stopped; not while the page is hidden, and never twice at a time.
export function every(period, work) {
  let timer = 0;
  let stopped = false;
  const round = async () => {
    if (!document.hidden) {
      try { await work(); } catch (error) { if (!(error instanceof Failure && error.status === 401)) lost(error); }
    }
    if (!stopped) timer = setTimeout(round, period);
  };
  round();
  return () => { stopped = true; clearTimeout(timer); };
}

every(3000, async () => {
  // Not by /ready: its 503 would be an error in the browser's console.
  const { ready, reason, down = [], version, uptime } = await ask("/health");
  state.textContent = `${ready ? "Ready" : `Not ready (${reason})`}${down.map((what) => `, ${what} down`).join("")}, version ${version}, up ${Math.floor(uptime / 60)} min`;
  state.className = ready && !down.length ? "good" : "warn";
});
