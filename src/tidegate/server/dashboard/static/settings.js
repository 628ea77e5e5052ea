import { ask, post } from "./api.js";
import { confirmed, el, number, table } from "./dom.js";

export async function settings(view, { say }) {
  const search = el("input", { autocomplete: "off" });
  const list = el("div");
  const found = await ask("/settings");

  function show() {
    const rows = Object.entries(found.settings)
      .filter(([name]) => name.includes(search.value.trim()))
      .map(([name, { value, live }]) => [
        el("span", { class: "mono" }, name),
        el("td", { class: "wrap mono" }, value == null ? "not set" : JSON.stringify(value)),
        live ? "while it runs" : "with a restart",
        el("td", { class: "wrap" }, found.sources[name] ?? "default"),
      ]);
    list.replaceChildren(table("Settings", ["Setting", "Value", "Can change", "From"], rows));
  }

  search.addEventListener("input", show);
  view.append(el("section", { class: "card" }, el("h2", {}, "Settings in force"),
    el("form", { class: "filter", onsubmit: (event) => event.preventDefault() }, el("label", {}, "Name contains", search)), list));
  show();
  say("");
}

export async function drain(view, { every, say }) {
  const button = el("button", { class: "danger", type: "button" }, "Drain this server");
  const progress = el("div", { "aria-live": "polite" });
  button.addEventListener("click", async () => {
    const question = "Drain this server? It admits nobody any more, closes all connections one after the other, and ends.";
    if (!(await confirmed(question, "Drain"))) return;
    try { await post("/drain"); } catch (error) { say(error.message, true); }
  });
  view.append(el("section", { class: "card" }, el("h2", {}, "Drain"),
    el("p", {}, "New attempts are refused with a delay. Every connection gets what was sent to it, then a close with 1012, spread over drain.window."),
    progress, el("div", { class: "row" }, button)));
  return every(1000, async () => {
    const now = await ask("/drain");
    button.disabled = now.draining || now.over;
    if (now.total === undefined) { progress.replaceChildren(el("p", { class: "quiet" }, "There is no drain.")); return; }
    progress.replaceChildren(
      el("p", {}, now.over ? "The drain is over." : `${number(now.open)} of ${number(now.total)} connections are left, about ${Math.ceil(now.left)} s.`),
      el("progress", { max: now.total || 1, value: now.total - now.open, "aria-label": "Connections that were closed" }),
    );
  });
}
