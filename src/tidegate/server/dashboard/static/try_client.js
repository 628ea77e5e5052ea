// One client on the page: what it is told, and what can be done to it.

import { el, number, seconds } from "./dom.js";
import { line } from "./try_line.js";
import { Client } from "./vendor/tidegate.js";

const MOST_LINES = 50;
const PING_MS = 3000;
const CLASSES = { open: "good", waiting: "warn", backoff: "warn", connecting: "quiet", closed: "bad" };
const MOMENTS = [1000, 1001, 1012]; // ends that nobody has to worry about

// "the server's text (its name)", or what a close code means that came without one.
export function reason({ error, detail, code, status }) {
  if (error) return detail ? `${error}: ${detail}` : error;
  if (status) return `HTTP ${status}`;
  return code === 1006 ? "the connection broke" : `closed with ${code}`;
}

export class TriedClient {
  #line = line();
  #client;
  #room;
  #due = 0; // when the next attempt comes, in milliseconds
  #waited = 0; // the longest position seen, for the bar
  #stops = [];
  #zone = "normal";

  // name: what the page calls it; lost: is told of each loss; removed: when it is gone.
  constructor({ url, name, tier, room, token, lost, removed }) {
    this.name = name;
    this.#client = new Client(url, { token, WebSocket: this.#line.Socket });
    this.#room = this.#client.room(room);
    this.#build(tier, room, removed);
    this.#listen(lost);
    this.#stops.push(this.#repeat(250, () => this.#count()), this.#repeat(PING_MS, () => this.#ping()));
    this.#client.connect();
    this.#join();
  }

  get state() { return this.#client.state; }

  cut() {
    this.#tell("The connection was cut", "event");
    this.#line.cut();
  }

  remove() {
    for (const stop of this.#stops) stop();
    this.#client.close();
    this.#line.close();
    this.element.remove();
  }

  #repeat(period, work) {
    const timer = setInterval(work, period);
    return () => clearInterval(timer);
  }

  #join() {
    // The events say how that goes, now and after each reconnect.
    this.#room.join({ presence: true, history: 5 }).catch(() => {});
  }

  #build(tier, room, removed) {
    const { name } = this;
    const button = (text, click, kind = "plain") =>
      el("button", { type: "button", class: kind, "aria-label": `${text}: ${name}`, onclick: click }, text);
    this.badge = el("span", { class: "badge quiet" }, "connecting");
    this.why = el("p", { class: "why", "aria-live": "polite" });
    this.bar = el("progress", { max: 1, value: 0, hidden: true, "aria-label": `Place in the waiting room: ${name}` });
    this.zone = el("dd", {}, "-");
    this.trip = el("dd", {}, "-");
    this.here = el("dd", {}, "-");
    this.log = el("ul", { class: "log", tabindex: "0", role: "log", "aria-live": "off", "aria-label": `Messages of ${name}` });
    this.text = el("input", { "aria-label": `Message of ${name}`, placeholder: `Say something in ${room}`, autocomplete: "off", maxlength: "500" });
    this.cutting = button("Cut", () => this.cut());
    this.network = button("Go offline", () => {
      this.#line.set(!this.#line.up);
      if (this.#line.up) dispatchEvent(new Event("online")); // as a browser tells its pages
      this.#tell(this.#line.up ? "The network is back" : "There is no network", "event");
      this.#label(this.network, this.#line.up ? "Go offline" : "Go online");
    });
    this.closing = button("Close", () => (this.state === "closed" ? this.#again() : this.#client.close()));
    const id = `client-${name.split(":")[0]}`;
    this.element = el("li", {}, el("article", { class: "card client", "aria-labelledby": id },
      el("div", { class: "top" }, el("h3", { id }, name, tier ? el("small", {}, ` tier ${tier}`) : null), this.badge),
      this.why, this.bar,
      el("dl", {}, el("dt", {}, "Zone"), this.zone, el("dt", {}, "Round trip"), this.trip, el("dt", {}, `In ${room}`), this.here),
      this.log,
      el("form", { class: "say", onsubmit: (event) => { event.preventDefault(); this.#say(); } },
        this.text, el("button", { "aria-label": `Send: ${name}` }, "Send")),
      el("div", { class: "row" }, this.cutting, this.network, this.closing,
        button("Remove", () => { this.remove(); removed(this); }))));
  }

  #label(button, text) {
    button.textContent = text;
    button.setAttribute("aria-label", `${text}: ${this.name}`);
  }

  #listen(lost) {
    const client = this.#client;
    client.on("state", (change) => {
      const { state, loss } = change;
      this.badge.textContent = state === "backoff" ? "coming back" : state;
      this.badge.className = `badge ${CLASSES[state]}`;
      this.#label(this.closing, state === "closed" ? "Connect" : "Close");
      this.cutting.disabled = state !== "open" && state !== "waiting";
      this.#due = state === "backoff" ? performance.now() + change.delay * 1000 : 0;
      this.bar.hidden = state !== "waiting";
      if (state !== "waiting") this.#waited = 0;
      if (state !== "open") this.trip.textContent = this.here.textContent = "-";
      this.why.className = "why";
      if (state === "closed") {
        this.why.textContent = loss.code === 1000 && !loss.error ? "Closed by you." : `It does not come back: ${reason(loss)}.`;
      } else if (state !== "backoff" && state !== "waiting") this.why.textContent = "";
      if (loss && !(loss.code === 1000 && !loss.error)) lost(this, change);
      this.loss = loss;
      this.#count();
    });
    client.on("connected", ({ resumed, degraded }) => {
      if (resumed) this.#tell("Resumed the session", "event");
      this.#setZone(degraded ? "warning" : "normal", client.settings);
    });
    client.on("waiting", ({ position, totalInQueue, estimatedWaitRemaining }) => {
      this.#waited = Math.max(this.#waited, position);
      this.bar.max = this.#waited;
      this.bar.value = this.#waited - position;
      const left = estimatedWaitRemaining == null ? "time unknown yet" : `about ${seconds(estimatedWaitRemaining)}`;
      this.why.textContent = `Position ${number(position)} of ${number(totalInQueue)} in the waiting room, ${left}.`;
    });
    client.on("system", ({ zone, settings }) => {
      if (zone !== this.#zone) this.#tell(`The server is in the zone ${zone}`, "event");
      this.#setZone(zone, settings);
    });
    client.on("shutdown", ({ reconnectDelay }) => this.#tell(`The server goes away; come back in ${seconds(reconnectDelay)}`, "event"));
    client.on("broadcast", ({ data }) => this.#tell(`To everybody: ${text(data)}`));
    client.on("direct", ({ from, data }) => this.#tell(`${from ?? "the server"}, to you: ${text(data)}`));
    client.on("error", (error) => this.#tell(`${error.code}: ${error.message}`, "event bad"));
    const room = this.#room;
    room.on("message", ({ from, data }) => this.#tell(`${from ?? "anonymous"}: ${text(data)}`));
    room.on("joined", ({ again, recovered }) => {
      if (again) this.#tell(recovered ? "Back in the room, nothing was missed" : "Back in the room; messages were missed", "event");
      this.#present();
    });
    room.on("presence", () => this.#present());
    room.on("gap", () => this.#tell("Messages were missed", "event"));
    room.on("left", ({ reason: why }) => this.#tell(`Out of the room: ${why}`, "event bad"));
    room.on("error", (error) => this.#tell(`Not in the room: ${error.code}`, "event bad"));
  }

  #present() {
    const { users, count, members } = this.#room;
    const names = [...users.values()].map(({ user, devices }) => (devices > 1 ? `${user} (${devices})` : user));
    if (names.length) this.here.textContent = names.join(", ");
    else this.here.textContent = count ? `${number(count)} users` : `${number(members)} members`;
  }

  #setZone(zone, settings) {
    this.#zone = zone;
    this.zone.className = { normal: "good", warning: "warn" }[zone] ?? "bad";
    const limits = [
      settings?.messagesPerSecond ? `${number(settings.messagesPerSecond)} messages a second` : null,
      settings?.broadcast === false ? "no messages to rooms" : null,
    ].filter(Boolean);
    this.zone.textContent = [zone, ...limits].join(", ");
  }

  #count() {
    if (!this.#due) return;
    const left = Math.max(0, this.#due - performance.now()) / 1000;
    this.why.setAttribute("aria-live", "off"); // the count would be read out
    this.why.textContent = `${MOMENTS.includes(this.loss?.code) ? "Left" : "Lost"}: ${reason(this.loss ?? {})}. Comes back in ${seconds(left)}.`;
  }

  async #ping() {
    if (this.state !== "open" || document.hidden) return;
    try {
      this.trip.textContent = `${number((await this.#client.ping()) * 1000)} ms`;
    } catch { /* `state` tells of a loss. */ }
  }

  #say() {
    const said = this.text.value.trim();
    if (!said) return;
    this.text.value = "";
    this.#room.publish(said).catch((error) => this.#tell(`Not sent: ${error.code}`, "event bad"));
  }

  #again() {
    this.#client.connect();
    this.#join();
  }

  #tell(said, kind = "") {
    const end = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 20;
    this.log.append(el("li", { class: kind || null }, said));
    while (this.log.childElementCount > MOST_LINES) this.log.firstChild.remove();
    if (end) this.log.scrollTop = this.log.scrollHeight;
  }
}

const text = (data) => (typeof data === "string" ? data : JSON.stringify(data));
