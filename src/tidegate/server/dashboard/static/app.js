// Which page is shown, by the part of the address behind "#", and the state in the head.

import { ask, Failure } from "./api.js";
import { connections, rooms } from "./connections.js";
import { el } from "./dom.js";
import { overview } from "./overview.js";
import { explain, refusals } from "./refusals.js";
import { drain, settings } from "./settings.js";
import { Timeline } from "./timeline.js";

const PAGES = { "/": overview, "/connections": connections, "/rooms": rooms, "/refusals": refusals, "/explain": explain, "/settings": settings, "/drain": drain };

const view = document.getElementById("view");
const state = document.getElementById("state");
const timeline = new Timeline();
let leave = () => {};
let shown = 0;

// Repeats some work until it is stopped; not while the page is hidden, and never twice at a time.
function every(period, work) {
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

function lost(error) {
  state.textContent = error instanceof Failure ? error.message : "The server does not answer";
  state.className = "bad";
}

function say(text, wrong = false) {
  document.getElementById("said")?.remove();
  if (!text) return;
  view.prepend(el("p", { id: "said", class: wrong ? "alert" : "quiet", role: wrong ? "alert" : "status" }, text));
}

async function show() {
  const turn = ++shown;
  leave();
  leave = () => {};
  const [path, search = ""] = location.hash.slice(1).split("?");
  const page = PAGES[path] ?? overview;
  for (const link of document.querySelectorAll("nav a")) {
    if (PAGES[link.hash.slice(1)] === page) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  view.replaceChildren();
  document.title = `${page.name[0].toUpperCase()}${page.name.slice(1)}: Tidegate`;
  try {
    const stop = await page(view, { timeline, every, say, parameters: new URLSearchParams(search) });
    if (turn === shown) leave = stop ?? leave;
    else stop?.();
  } catch (error) {
    if (turn === shown) say(error.message, true);
  }
}

addEventListener("hashchange", () => { show(); view.focus(); });
every(1000, () => timeline.poll());
every(3000, async () => {
  const ready = await ask("/ready");
  const health = await ask("/health");
  state.textContent = `${ready.ready ? "Ready" : `Not ready (${ready.reason})`}, version ${health.version}, up ${Math.floor(health.uptime / 60)} min`;
  state.className = ready.ready ? "good" : "warn";
});
show();
