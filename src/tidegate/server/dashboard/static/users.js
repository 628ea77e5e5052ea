import { ask, post, query } from "./api.js";
import { Connections, room as linked, user as link } from "./connections.js";
import { confirmed, el, number, table } from "./dom.js";
import { choice, missing, scope, spread } from "./fleet.js";

export async function users(view, { say }) {
  const search = el("input", { name: "search", autocomplete: "off" });
  const form = el("form", { class: "filter" }, el("label", {}, "Name contains", search), el("button", { type: "submit" }, "Search"));
  const nodes = choice(() => { after = ""; load(); });
  const list = el("div");
  const more = el("button", { class: "plain", type: "button", hidden: true }, "Next page");
  let after = "";

  async function load() {
    try {
      const page = await ask(`/users${query({ limit: 50, search: search.value, after, ...scope() })}`);
      const heads = ["User", "Connections", ...("complete" in page ? ["Nodes"] : [])];
      list.replaceChildren(
        el("p", { class: "quiet" }, `${number(page.total)} users have a connection; by name.${missing(page)}`),
        page.users.length
          ? table("Users", heads, page.users.map((one) => [
            el("td", { class: "wrap" }, link(one.user)), number(one.connections), ...(one.nodes ? [spread(one.nodes)] : []),
          ]))
          : el("p", { class: "quiet" }, "There are no such users."),
      );
      more.hidden = page.next == null;
      after = page.next ?? "";
    } catch (error) {
      say(error.message, true);
    }
  }

  form.addEventListener("submit", (event) => { event.preventDefault(); after = ""; load(); });
  more.addEventListener("click", load);
  view.append(el("section", { class: "card" }, el("h2", {}, "Users"), form, nodes, list, el("div", { class: "row" }, more)));
  await load();
}

export async function user(view, { parameters, say }) {
  const name = parameters.get("name") ?? "";
  const rooms = el("div");
  const latency = el("span", { role: "status", class: "quiet" });
  const list = new Connections(() => ({ user: name }), say, "The user has no connection.", () => load());

  async function load() {
    const shown = await list.again();
    const found = [...new Set(shown.flatMap((one) => one.rooms))].sort();
    rooms.replaceChildren(found.length
      ? el("ul", { class: "names" }, found.map((one) => el("li", {}, linked(one))))
      : el("p", { class: "quiet" }, "These connections are in no room."));
  }

  async function act(question, action, path, done) {
    if (!(await confirmed(question, action))) return;
    try { say(done(await post(path, { user: name }))); } catch (error) { say(error.message, true); }
    await load();
  }

  async function ping() {
    latency.textContent = "waiting";
    try {
      const found = await post("/ping", { user: name, timeout: 5 });
      latency.textContent = found.latency == null ? "no answer within 5 s" : `answered after ${(found.latency * 1000).toFixed(1)} ms`;
    } catch (error) {
      latency.textContent = error.message;
    }
  }

  const button = (kind, text, onclick) => el("button", { class: kind, type: "button", onclick }, text);
  view.append(
    el("section", { class: "card" }, el("h2", {}, "User ", el("span", { class: "mono" }, name)), list.element,
      el("div", { class: "row" }, latency,
        button("plain", "Ping", ping),
        button("plain", "Refresh", load),
        button("danger", "Disconnect all", () => act(
          `Disconnect all connections of ${name}? Their clients may not come back by themselves.`, "Disconnect all", "/disconnect",
          ({ count }) => `${number(count)} connections were closed.`)),
        button("danger", "Revoke tokens", () => act(
          `Refuse the tokens that ${name} has so far, and close the connections?`, "Revoke", "/revoke",
          ({ closed }) => `The tokens are refused; ${number(closed)} connections were closed.`)))),
    el("section", { class: "card" }, el("h2", {}, "Rooms"), rooms),
  );
  await load();
}
