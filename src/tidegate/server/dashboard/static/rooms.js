import { ask, query } from "./api.js";
import { Connections, room as linked, user } from "./connections.js";
import { bytes, el, number, table, time } from "./dom.js";
import { choice, missing, scope, spread } from "./fleet.js";
import { steps } from "./refusals.js";

const PAGE = 50;
const MOST = 1000; // messages that are shown of one room

export async function rooms(view, { say }) {
  const search = el("input", { name: "search", autocomplete: "off" });
  const form = el("form", { class: "filter" }, el("label", {}, "Name contains", search), el("button", { type: "submit" }, "Search"));
  const nodes = choice(() => load(null));
  const list = el("div");
  const more = el("button", { class: "plain", type: "button" });
  let after = null; // null: the largest first; else by name, behind this one

  async function load(from) {
    try {
      const page = await ask(`/rooms?${new URLSearchParams({ limit: PAGE, search: search.value, ...scope(), ...(from == null ? {} : { after: from }) })}`);
      const heads = ["Room", "Members", "Offset", "Kept messages", "Kept bytes", ...("complete" in page ? ["Nodes"] : [])];
      list.replaceChildren(
        el("p", { class: "quiet" }, `${number(page.total)} rooms have members; ${from == null ? "the largest first" : "by name"}.${missing(page)}`),
        page.rooms.length
          ? table("Rooms", heads, page.rooms.map(row))
          : el("p", { class: "quiet" }, "There are no such rooms."),
      );
      after = from == null ? "" : page.next;
      more.textContent = from == null ? "All by name" : "Next page";
      more.hidden = from == null ? page.rooms.length < PAGE : page.next == null;
    } catch (error) {
      say(error.message, true);
    }
  }

  form.addEventListener("submit", (event) => { event.preventDefault(); load(null); });
  more.addEventListener("click", () => load(after));
  view.append(el("section", { class: "card" }, el("h2", {}, "Rooms"), form, nodes, list, el("div", { class: "row" }, more)));
  await load(null);
}

function row({ name, members, history, nodes }) {
  const kept = history ? [number(history.offset), number(history.messages), bytes(history.bytes)] : ["-", "-", "-"];
  return [el("td", { class: "wrap" }, linked(name)), number(members), ...kept, ...(nodes ? [spread(nodes)] : [])];
}

// The answer, null where the rule of the room has no such thing.
async function ruled(path) {
  try {
    return await ask(path);
  } catch (error) {
    if (["no_presence", "no_history"].includes(error.message)) return null;
    throw error;
  }
}

export async function room(view, { parameters, say, every }) {
  const name = parameters.get("name") ?? "";
  const tiles = el("dl", { class: "tiles" });
  const present = el("div");
  const said = new Messages(name, say);
  const members = new Connections(() => ({ room: name }), say, "The room has no members.");
  const refresh = el("button", { class: "plain", type: "button", onclick: () => members.again() }, "Refresh");
  view.append(
    tiles,
    el("section", { class: "card" }, el("h2", {}, "Room ", el("span", { class: "mono" }, name)), members.element, el("div", { class: "row" }, refresh)),
    el("section", { class: "card" }, el("h2", {}, "Presence"), present),
    whoMay(name, say),
    el("section", { class: "card" }, el("h2", {}, "History"), said.element),
  );
  await members.again();
  // What is asked again and again costs the server little, however many members there are: a count,
  // the users that its rule shows, and what was said since the last time.
  return every(3000, async () => {
    const [one] = (await ask(`/rooms${query({ name, ...scope() })}`)).rooms;
    const shown = await ruled(`/presence${query({ room: name })}`);
    tiles.replaceChildren(...[
      ["Members", number(one?.members), "connections"],
      ["Present", shown ? number(shown.count) : "off", shown ? "users" : "by the room's rule"],
      ["Offset", one?.history ? number(one.history.offset) : "-", one?.history ? `epoch ${one.history.epoch}` : "nothing is kept"],
      ["Kept", one?.history ? number(one.history.messages) : "-", one?.history ? bytes(one.history.bytes) : "nothing is kept"],
    ].map(([title, value, small]) => el("div", { class: "tile" }, el("dt", {}, title), el("dd", {}, value, el("small", {}, small)))));
    present.replaceChildren(who(shown));
    await said.follow();
  });
}

function who(shown) {
  if (!shown) return el("p", { class: "quiet" }, "The rule of this room shows nobody.");
  if (!shown.users) return el("p", { class: "quiet" }, `${number(shown.count)} users: too many to show by the room's rule.`);
  if (!shown.users.length) return el("p", { class: "quiet" }, "Nobody is there.");
  return table("Presence", ["User", "Devices", "Info"], shown.users.map((one) => [
    user(one.user), number(one.devices), el("td", { class: "wrap mono" }, one.info === undefined ? "-" : JSON.stringify(one.info)),
  ]));
}

// The last messages of a room, the newest first; older ones on request, new ones as they come.
class Messages {
  constructor(name, say) {
    this.name = name;
    this.say = say;
    this.limit = PAGE;
    this.messages = null;
    this.list = el("div");
    this.more = el("button", { class: "plain", type: "button", hidden: true }, "Older messages");
    this.more.addEventListener("click", () => this.older());
    this.element = el("div", {}, this.list, el("div", { class: "row" }, this.more));
  }

  async older() {
    this.limit = Math.min(2 * this.limit, MOST);
    this.messages = null;
    try { await this.follow(); } catch (error) { this.say(error.message, true); }
  }

  async follow() {
    const known = this.messages && { epoch: this.epoch, offset: this.offset };
    let page = await ruled(`/history${query({ room: this.name, limit: this.limit, ...known })}`);
    if (page && known && !page.recovered) page = await ruled(`/history${query({ room: this.name, limit: this.limit })}`);
    else if (page && known) {
      if (!page.messages.length) return;
      page.messages = [...this.messages, ...page.messages].slice(-this.limit);
    }
    this.messages = page?.messages ?? null;
    if (page) {
      this.epoch = page.epoch;
      this.offset = page.messages.at(-1)?.offset ?? page.offset;
    }
    this.draw(page);
  }

  draw(page) {
    this.more.hidden = !page || page.messages.length < this.limit || this.limit === MOST;
    if (!page) this.list.replaceChildren(el("p", { class: "quiet" }, "The rule of this room keeps no history."));
    else if (!page.messages.length) this.list.replaceChildren(el("p", { class: "quiet" }, "Nothing is kept."));
    else {
      const rows = [...page.messages].reverse().map((one) => {
        // The same element each time, so that one that was opened stays open.
        one.shown ??= el("td", { class: "wrap mono" }, shortened(JSON.stringify(one.data)));
        return [number(one.offset), one.timestamp === undefined ? "-" : time(one.timestamp), one.from == null ? "server" : user(one.from), one.shown];
      });
      this.list.replaceChildren(table("History, the newest first", ["Offset", "At", "From", "Data"], rows));
    }
  }
}

const SHOWN = 300;

// A long text as its beginning, with the rest behind it.
function shortened(text) {
  if (text.length <= SHOWN) return text;
  return el("details", {}, el("summary", {}, `${text.slice(0, SHOWN)}…`), text);
}

function whoMay(name, say) {
  const asked = el("input", { name: "user", autocomplete: "off" });
  const claim = el("input", { name: "claim", autocomplete: "off", placeholder: "chat:*" });
  const form = el("form", { class: "filter" },
    el("label", {}, "User, none for a client without a token", asked),
    el("label", {}, "Claim rooms of the token", claim),
    el("button", { type: "submit" }, "Explain"));
  const result = el("div", { "aria-live": "polite" });

  async function load() {
    try {
      const found = await ask(`/explain/room${query({ room: name, user: asked.value, claim: claim.value })}`);
      result.replaceChildren(steps(found.steps, "yes", "no"));
    } catch (error) {
      say(error.message, true);
    }
  }

  form.addEventListener("submit", (event) => { event.preventDefault(); load(); });
  load();
  return el("section", { class: "card" }, el("h2", {}, "Who may join and publish"), form, result);
}
