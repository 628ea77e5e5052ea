// Which page is shown, by the part of the address behind "#".

import { connections } from "./connections.js";
import { el } from "./dom.js";
import { every } from "./head.js";
import { nodes } from "./nodes.js";
import { overview } from "./overview.js";
import { explain, refusals } from "./refusals.js";
import { room, rooms } from "./rooms.js";
import { drain, settings } from "./settings.js";
import { Timeline } from "./timeline.js";
import { user, users } from "./users.js";

const PAGES = {
  "/": overview, "/connections": connections, "/rooms": rooms, "/room": room, "/users": users, "/user": user,
  "/nodes": nodes, "/refusals": refusals, "/explain": explain, "/settings": settings, "/drain": drain,
};
const WITHIN = new Map([[room, rooms], [user, users]]); // pages of one thing, by that of all

const view = document.getElementById("view");
const timeline = new Timeline();
let leave = () => {};
let shown = 0;

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
    if (PAGES[link.hash.slice(1)] === (WITHIN.get(page) ?? page)) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest", inline: "nearest" }); // on a phone they do not fit in
    } else link.removeAttribute("aria-current");
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
show();
