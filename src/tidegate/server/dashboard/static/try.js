// The page to try the server on: clients of it in this page, and the server as it answers them.

import { ask } from "./api.js";
import { el, number, seconds, table, time } from "./dom.js";
import { every } from "./head.js";
import { drain } from "./settings.js";
import { reason, TriedClient } from "./try_client.js";
import { canSign, sign } from "./try_token.js";

const MOST_CLIENTS = 60;
const MOST_LOSSES = 20;
const DEVELOPMENT = "for development on this machine only"; // of examples/development.toml

const view = document.getElementById("view");
const url = document.querySelector("meta[name=public-url]").content;
const ownMachine = /^(localhost|127\..*|\[::1\])$/.test(location.hostname);
const clients = new Set();
const losses = [];
let settings = {};
let made = 0;

const said = el("div", { "aria-live": "polite" });
const tiles = el("dl", { class: "tiles" });
const cards = el("ul", { class: "clients", "aria-label": "Clients" });
const lossTable = el("div");
const none = el("p", { class: "quiet" }, "No client yet.");

function say(text, wrong = false) {
  said.replaceChildren(text ? el("p", { class: wrong ? "alert" : "quiet" }, text) : "");
}

const value = (name) => settings[name]?.value;

// Clients.

const user = el("input", { value: "ann", autocomplete: "off", maxlength: "100" });
const tier = el("input", { list: "tiers", autocomplete: "off", maxlength: "100" });
const room = el("input", { value: "try", required: true, autocomplete: "off", maxlength: "200" });
const count = el("input", { type: "number", value: "1", min: "1", max: String(MOST_CLIENTS), required: true });
const secret = el("input", { type: "password", autocomplete: "off", value: ownMachine ? DEVELOPMENT : "" });
const hint = el("p", { class: "quiet" });

function connect() {
  const many = Number(count.value);
  if (clients.size + many > MOST_CLIENTS) return say(`This page has at most ${MOST_CLIENTS} clients; remove some.`, true);
  const who = user.disabled ? "" : user.value.trim();
  const group = who && tier.value.trim();
  if (who && !secret.value) return say("To connect as a user, enter the secret that signs tokens; without a user the client is anonymous.", true);
  if (who && !canSign()) return say("This browser signs tokens only on pages of this machine, or over TLS. Leave the user empty.", true);
  say("");
  const claims = { sub: who, ...(group && { tier: group }) };
  if (value("auth.issuer")) claims.iss = value("auth.issuer");
  if (value("auth.audience")) claims.aud = value("auth.audience");
  const key = secret.value;
  for (let left = many; left > 0; left -= 1) {
    const client = new TriedClient({
      url, tier: group, room: room.value.trim(), lost, removed,
      name: `${++made}: ${who || "anonymous"}`,
      token: who ? () => sign(key, claims) : undefined,
    });
    clients.add(client);
    cards.append(client.element);
  }
  changed();
}

function removed(client) {
  clients.delete(client);
  changed();
}

function changed() {
  none.hidden = clients.size > 0;
  for (const button of all.children) button.disabled = clients.size === 0;
}

function lost({ name }, { loss, delay, state }) {
  losses.unshift([time(Date.now() / 1000), name, loss.code, el("td", { class: "wrap" }, reason(loss)),
    state === "closed" ? "not again" : seconds(delay)]);
  losses.splice(MOST_LOSSES);
  lossTable.replaceChildren(table("Refused and lost", ["Time", "Client", "Code", "Reason", "Comes back in"], losses));
  if (loss.error === "origin") {
    say(`The server refuses pages of ${location.origin}. To allow this one, start it with --set 'server.origins=["${location.origin}"]' and the origins of your own pages; 'make run' allows all pages of this machine.`, true);
  }
}

const all = el("div", { class: "row" },
  el("button", { type: "button", class: "plain", onclick: () => { for (const client of clients) if (client.state === "open") client.cut(); } }, "Cut all"),
  el("button", { type: "button", class: "plain", onclick: () => { for (const client of clients) client.remove(); clients.clear(); changed(); } }, "Remove all"));

// The server.

const limit = el("input", { type: "number", min: "0", max: "1000000", required: true });
const limits = el("p", { class: "quiet" });

function showStats({ connections, load, waiting }) {
  const zone = { normal: "good", warning: "warn" }[load.zone] ?? "bad";
  tiles.replaceChildren(...[
    ["Connections", number(connections.current), `of ${number(connections.limit)}`],
    ["Zone", el("span", { class: zone }, load.zone), `pressure ${Math.round(load.pressure * 100)} %${load.acts ? "" : ", shedding is off"}`],
    ["Waiting room", number(waiting.now), value("waiting_room.enabled") ? `of ${number(value("waiting_room.size"))}` : "is off"],
    ["Refused", number(connections.rejected), `${number(connections.accepted)} accepted`],
  ].map(([name, shown, more]) => el("div", { class: "tile" }, el("dt", {}, name), el("dd", {}, shown, el("small", {}, more)))));
}

function showSettings() {
  if (document.activeElement !== limit) limit.value = value("limits.connections");
  const pace = value("pacing.enabled") ? `${number(value("pacing.rate"))} new connections a second, ` : "";
  limits.textContent = `Also: ${pace}${number(value("limits.per_ip"))} of an address, ${number(value("limits.per_user"))} of a user, ${number(value("limits.per_room"))} in a room.`;
  const tokens = ["auth.secret", "auth.keys", "auth.public_key"].some((name) => value(name)?.length);
  for (const field of [user, tier, secret]) field.disabled = !tokens;
  if (!tokens) hint.textContent = "This server takes no tokens (auth.secret is not set), so every client is anonymous.";
  else hint.textContent = value("auth.anonymous") ? "Without a user the client is anonymous." : "This server wants a token of every client: enter a user.";
}

async function setLimit() {
  const most = Number(limit.value);
  try {
    await ask("/settings", {
      method: "PATCH",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ limits: { connections: most } }),
    });
    say(`The server has room for ${number(most)} connections now, until it is started again.`);
    limit.blur();
  } catch (error) { say(error.message, true); }
}

const submit = (work) => (event) => { event.preventDefault(); work(); };

async function start() {
  const found = await ask("/settings");
  settings = found.settings;
  const names = new Set(Object.keys(settings).filter((name) => name.startsWith("tiers.")).map((name) => name.split(".")[1]));
  const draining = el("div", { class: "below" });
  view.append(
    said,
    el("div", { class: "columns" },
      el("section", { class: "card" }, el("h2", {}, "Connect"),
        el("form", { onsubmit: submit(connect) },
          el("div", { class: "fields" },
            el("label", {}, "User", user), el("label", {}, "Tier", tier),
            el("label", {}, "Room", room), el("label", {}, "How many", count)),
          el("datalist", { id: "tiers" }, [...names].map((name) => el("option", { value: name }))),
          hint,
          el("div", { class: "row" }, el("button", {}, "Connect")),
          el("details", {}, el("summary", {}, "Tokens"),
            el("p", { class: "quiet" }, "A user has a token. It is signed in this page, with the secret that is the server's auth.secret; the secret is sent nowhere."),
            el("label", {}, "Secret", secret))),
        el("p", { class: "quiet" }, "They connect to ", el("code", {}, url || "no TCP port"), ".")),
      el("section", { class: "card" }, el("h2", {}, "The server"), tiles,
        el("form", { onsubmit: submit(setLimit) },
          el("div", { class: "one" }, el("label", {}, "Connections at most", limit), el("button", {}, "Set"))),
        limits)),
    el("section", { class: "card" },
      el("div", { class: "heading" }, el("h2", {}, "Clients"), all), none, cards),
    el("section", { class: "card" }, el("h2", {}, "Refused and lost"), lossTable),
    draining,
  );
  lossTable.append(el("p", { class: "quiet" }, "Nothing yet. Each loss is shown here, with the server's reason and the delay that the client keeps."));
  showSettings();
  changed();
  drain(draining, { every, say });
  every(1000, async () => showStats(await ask("/stats")));
  every(10000, async () => { settings = (await ask("/settings")).settings; showSettings(); });
}

document.querySelector("nav [aria-current]").scrollIntoView({ block: "nearest", inline: "nearest" }); // on a phone
start().catch((error) => say(error.message, true));
