import { ask, post, query } from "./api.js";
import { bytes, confirmed, el, number, seconds, table } from "./dom.js";

export async function connections(view, { say, parameters }) {
  const fields = ["user", "ip", "room"].map((name) =>
    el("label", {}, { user: "User", ip: "Address or network", room: "Room" }[name],
      el("input", { name, value: parameters.get(name) ?? "", autocomplete: "off" })));
  const list = el("div");
  const more = el("button", { class: "plain", type: "button", hidden: true }, "Next page");
  const form = el("form", { class: "filter" }, fields, el("button", { type: "submit" }, "Search"));
  let after = 0;

  async function load() {
    const given = Object.fromEntries(new FormData(form));
    const page = await ask(`/connections${query({ ...given, limit: 50, after })}`);
    list.replaceChildren(
      page.connections.length
        ? table("Connections", ["Number", "User", "Tier", "Address", "Rooms", "Age", "Idle", "Waiting bytes", ""],
          page.connections.map(row))
        : el("p", { class: "quiet" }, "There are no such connections."),
    );
    more.hidden = page.next == null;
    after = page.next ?? 0;
  }

  function row(one) {
    const rooms = one.rooms.slice(0, 3).join(", ") + (one.roomCount > 3 ? ` and ${one.roomCount - 3} more` : "");
    return [
      number(one.number), one.user, one.tier, el("span", { class: "mono" }, one.address),
      el("td", { class: "wrap" }, rooms || "-"), seconds(one.age), seconds(one.idle), bytes(one.buffered),
      el("button", { class: "plain", type: "button", "aria-label": `Disconnect ${one.number}`, onclick: () => kick(one) }, "Disconnect"),
    ];
  }

  async function kick(one) {
    const whose = one.user ? `of ${one.user}` : `from ${one.address}`;
    if (!(await confirmed(`Disconnect connection ${one.number} ${whose}? Its client may not come back by itself.`, "Disconnect"))) return;
    const { count } = await post("/disconnect", { id: one.id });
    say(count ? "Disconnected." : "It had left already.");
    after = 0;
    await load();
  }

  form.addEventListener("submit", (event) => { event.preventDefault(); after = 0; load().catch((error) => say(error.message, true)); });
  more.addEventListener("click", () => load().catch((error) => say(error.message, true)));
  view.append(el("section", { class: "card" }, el("h2", {}, "Connections"), form, list, el("div", { class: "row" }, more)));
  await load();
}

export async function rooms(view, { say }) {
  const search = el("input", { name: "search", autocomplete: "off" });
  const form = el("form", { class: "filter" }, el("label", {}, "Name contains", search), el("button", { type: "submit" }, "Search"));
  const list = el("div");

  async function load() {
    const page = await ask(`/rooms${query({ search: search.value })}`);
    list.replaceChildren(
      el("p", { class: "quiet" }, `${number(page.total)} rooms have members; the largest first.`),
      page.rooms.length
        ? table("Rooms", ["Room", "Members", ""], page.rooms.map((room) => [
          el("td", { class: "wrap mono" }, room.name), number(room.members),
          el("a", { href: `#/connections?room=${encodeURIComponent(room.name)}` }, "Members"),
        ]))
        : el("p", { class: "quiet" }, "There are no such rooms."),
    );
  }

  form.addEventListener("submit", (event) => { event.preventDefault(); load().catch((error) => say(error.message, true)); });
  view.append(el("section", { class: "card" }, el("h2", {}, "Rooms"), form, list));
  await load();
}
