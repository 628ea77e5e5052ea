import { ask, post, query } from "./api.js";
import { bytes, confirmed, el, number, seconds, table } from "./dom.js";
import { choice, missing, scope } from "./fleet.js";

export const room = (name) => el("a", { class: "mono", href: `#/room${query({ name })}` }, name);
export const user = (name) => (name == null ? "-" : el("a", { href: `#/user${query({ name })}` }, name));

const HEADS = ["Number", "User", "Tier", "Address", "Rooms", "Age", "Idle", "Waiting bytes"];

// A table of connections that comes in pages; `given` returns what the connections have to meet.
export class Connections {
  constructor(given, say, empty = "There are no such connections.", changed = () => this.again()) {
    this.given = given;
    this.say = say;
    this.empty = empty;
    this.after = 0;
    this.list = el("div");
    this.more = el("button", { class: "plain", type: "button", hidden: true }, "Next page");
    this.more.addEventListener("click", () => this.show());
    this.element = el("div", {}, choice(changed), this.list, el("div", { class: "row" }, this.more));
  }

  // Shows the first page again.
  async again() {
    this.after = 0;
    return this.show();
  }

  async show() {
    try {
      const page = await ask(`/connections${query({ ...this.given(), ...scope(), limit: 50, after: this.after })}`);
      const heads = "complete" in page ? [...HEADS, "Node", ""] : [...HEADS, ""];
      this.list.replaceChildren(
        page.connections.length
          ? table("Connections", heads, page.connections.map((one) => this.row(one)))
          : el("p", { class: "quiet" }, this.empty),
        ...(missing(page) ? [el("p", { class: "quiet" }, missing(page))] : []),
      );
      this.more.hidden = page.next == null;
      this.after = page.next ?? 0;
      return page.connections;
    } catch (error) {
      this.say(error.message, true);
      return [];
    }
  }

  row(one) {
    const rooms = one.rooms.slice(0, 3).flatMap((name, index) => (index ? [", ", room(name)] : [room(name)]));
    if (one.roomCount > 3) rooms.push(` and ${one.roomCount - 3} more`);
    return [
      number(one.number), user(one.user), one.tier, el("span", { class: "mono" }, one.address),
      el("td", { class: "wrap" }, rooms.length ? rooms : "-"), seconds(one.age), seconds(one.idle), bytes(one.buffered),
      ...(one.node === undefined ? [] : [el("span", { class: "mono" }, one.node)]),
      el("button", { class: "plain", type: "button", "aria-label": `Disconnect ${one.number}`, onclick: () => this.kick(one) }, "Disconnect"),
    ];
  }

  async kick(one) {
    const whose = one.user ? `of ${one.user}` : `from ${one.address}`;
    if (!(await confirmed(`Disconnect connection ${one.number} ${whose}? Its client may not come back by itself.`, "Disconnect"))) return;
    try {
      const { count } = await post("/disconnect", { id: one.id });
      this.say(count ? "Disconnected." : "It had left already.");
    } catch (error) {
      this.say(error.message, true);
    }
    await this.again();
  }
}

export async function connections(view, { say, parameters }) {
  const fields = ["user", "ip", "room"].map((name) =>
    el("label", {}, { user: "User", ip: "Address or network", room: "Room" }[name],
      el("input", { name, value: parameters.get(name) ?? "", autocomplete: "off" })));
  const form = el("form", { class: "filter" }, fields, el("button", { type: "submit" }, "Search"));
  const list = new Connections(() => Object.fromEntries(new FormData(form)), say);
  form.addEventListener("submit", (event) => { event.preventDefault(); list.again(); });
  view.append(el("section", { class: "card" }, el("h2", {}, "Connections"), form, list.element));
  await list.again();
}
