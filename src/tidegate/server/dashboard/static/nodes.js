import { ask } from "./api.js";
import { el, number, seconds, table } from "./dom.js";

const HEADS = ["Node", "Host", "Worker", "Address", "Version", "State", "Zone", "Connections", "New a second", "Up for"];
const CLASSES = { up: "good", down: "bad", serving: "good", gone: "bad", normal: "good", critical: "bad", emergency: "bad" };

const mark = (value, more = "") => el("span", { class: CLASSES[value] ?? "warn" }, value, more);

function row(node) {
  const state = node.state === "gone" ? ` for ${seconds(node.heard)}` : node.state === "unready" ? ` (${node.reason})` : "";
  return [
    el("td", { class: "mono" }, node.id, node.own ? " (this one)" : ""), el("td", { class: "wrap" }, node.host), node.worker,
    el("td", { class: "wrap" }, node.addresses.join(", ")), node.version, mark(node.state, state),
    mark(node.zone, ` ${Math.round(node.pressure * 100)} %`), `${number(node.connections)} of ${number(node.capacity)}`,
    number(node.rate), seconds(Math.max(0, Date.now() / 1000 - node.since)),
  ];
}

function between(backplane) {
  if (backplane == null) return "No backplane: this server is alone.";
  const errors = Object.values(backplane.errors).reduce((sum, count) => sum + count, 0);
  const away = backplane.latency == null ? "" : `, ${(backplane.latency * 1000).toFixed(1)} ms away`;
  return ["Backplane of this node: ", mark(backplane.up ? "up" : "down", away),
    `; ${number(backplane.subscriptions)} rooms heard, ${number(backplane.published)} messages published, ${number(backplane.received)} received, `
    + `${number(errors)} errors, connected again ${number(backplane.reconnects)} times.`];
}

export async function nodes(view, { every }) {
  const head = el("p", { class: "quiet" });
  const state = el("p", { class: "quiet" });
  const list = el("div");
  view.append(el("section", { class: "card" }, el("h2", {}, "Nodes"), head, list, state));
  return every(2000, async () => {
    const page = await ask("/nodes");
    const all = page.complete ? "" : " The backplane cannot be reached: there may be more.";
    head.textContent = `${number(page.connections)} of ${number(page.capacity)} connections in all.${all}`;
    state.replaceChildren(...[between(page.backplane)].flat());
    list.replaceChildren(table("Nodes", HEADS, page.nodes.map(row)));
  });
}
