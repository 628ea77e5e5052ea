import { ask, query } from "./api.js";
import { el, number, seconds, table, time } from "./dom.js";

export async function refusals(view, { every }) {
  const reasons = el("div");
  const list = el("div");
  view.append(
    el("section", { class: "card" }, el("h2", {}, "Refusals by reason"), reasons),
    el("section", { class: "card" }, el("h2", {}, "The last refusals"), list),
  );
  return every(3000, async () => {
    const found = await ask("/refusals");
    const counted = Object.entries(found.reasons).sort((a, b) => b[1].count - a[1].count);
    reasons.replaceChildren(counted.length
      ? table("Refusals by reason", ["Reason", "Count", "What it means", "Last one"],
        counted.map(([reason, { count, last }]) => [
          el("span", { class: "mono" }, reason), number(count), el("td", { class: "wrap" }, last.message), time(last.at)]))
      : el("p", { class: "quiet" }, "Nobody was refused since the start."));
    list.replaceChildren(found.refusals.length
      ? table("The last refusals", ["At", "Reason", "Address", "User", "Origin", "Client", "Come back in", ""],
        found.refusals.slice(0, 100).map((one) => [
          time(one.at), el("span", { class: "mono" }, one.reason), el("span", { class: "mono" }, one.ip), one.user,
          el("td", { class: "wrap" }, one.origin || "-"), el("td", { class: "wrap" }, one.userAgent || "-"),
          one.retryAfter == null ? "not by itself" : seconds(one.retryAfter), el("a", { href: why(one) }, "Why"),
        ]))
      : el("p", { class: "quiet" }, "There are none."));
  });
}

const why = (one) => `#/explain${query({ ip: one.ip, user: one.user, tier: one.tier, origin: one.origin, host: one.origin ? one.host : "" })}`;

// What is said of each step; with `later`, steps behind one that does not pass are not reached.
export function steps(found, passes, fails, later) {
  let reached = true;
  return el("ol", { class: "steps" }, found.map((step) => {
    const state = reached ? (step.passed ? "" : "no") : "later";
    const said = reached ? (step.passed ? passes : fails) : later;
    if (later && !step.passed) reached = false;
    const numbers = Object.entries(step.numbers).map(([name, value]) => `${name} ${value ?? "-"}`).join(", ");
    return el("li", { class: state }, el("b", {}, step.name), ` ${said}: ${step.detail}`,
      numbers ? el("div", { class: "quiet mono" }, numbers) : null);
  }));
}

export async function explain(view, { parameters, say }) {
  const labels = { ip: "Address", user: "User", tier: "Tier", priority: "Priority", origin: "Origin of the page", host: "Host" };
  const form = el("form", { class: "filter" },
    Object.entries(labels).map(([name, label]) =>
      el("label", {}, label, el("input", { name, value: parameters.get(name) ?? (name === "ip" ? "127.0.0.1" : ""), autocomplete: "off" }))),
    el("button", { type: "submit" }, "Explain"));
  const result = el("div", { "aria-live": "polite" });

  async function load() {
    const given = Object.fromEntries(new FormData(form));
    const found = await ask(`/explain${query(given)}`);
    const words = { admit: ["good", "It would be admitted now."], wait: ["warn", "It would wait."], reject: ["bad", `It would be refused by ${found.by}.`] };
    const [kind, text] = words[found.outcome];
    result.replaceChildren(el("p", { class: kind }, el("strong", {}, text)), steps(found.steps, "passes", "does not pass", "is not asked"));
  }

  form.addEventListener("submit", (event) => { event.preventDefault(); load().catch((error) => say(error.message, true)); });
  view.append(el("section", { class: "card" }, el("h2", {}, "What the gate would decide about an attempt"), form, result));
  await load();
}
