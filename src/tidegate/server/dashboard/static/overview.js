import { ask } from "./api.js";
import { Chart } from "./charts.js";
import { bytes, el, number, table } from "./dom.js";

const milliseconds = (value) => `${(value * 1000).toFixed(1)} ms`;
const share = (value) => `${Math.round(value * 100)} %`;

const charts = () => [
  new Chart("Connections", (all) => [
    ["connections", all.level((sample) => sample.connections)],
    ["limit", all.level((sample) => sample.limit)],
  ], number, 1),
  new Chart("New connections a second", (all) => [["accepted", all.rate((sample) => sample.accepted)]], number),
  new Chart("Refusals a second", (all) => {
    const reasons = all.keys((sample) => sample.rejected);
    if (!reasons.length) return [["refusals", all.level(() => 0)]];
    return reasons.map((reason) => [reason, all.rate((sample) => sample.rejected[reason] ?? 0)]);
  }, number),
  new Chart("Messages a second", (all) => [
    ["received", all.rate((sample) => sample.received)],
    ["sent", all.rate((sample) => sample.sent)],
  ], number),
  new Chart("Pressure by signal", (all) =>
    all.keys((sample) => sample.pressures).map((signal) => [signal, all.level((sample) => sample.pressures[signal] ?? null)]), share, 1),
  new Chart("Event loop lag, at most", (all) => [["lag", all.level((sample) => sample.lag)]], milliseconds, 0.005),
  new Chart("Memory", (all) => [
    ["process", all.level((_, moment) => moment.memory)],
    ["outboxes", all.level((sample) => sample.outbox)],
  ], bytes),
  new Chart("Bytes a second", (all) => [
    ["received", all.rate((sample) => sample.bytesReceived)],
    ["sent", all.rate((sample) => sample.bytesSent)],
  ], bytes),
];

function tiles(stats) {
  const { connections, load, waiting, messages } = stats;
  const zone = { normal: "good", warning: "warn" }[load.zone] ?? "bad";
  const driver = load.driver ? `${share(load.pressure)} by ${load.driver}` : share(load.pressure);
  return [
    ["Connections", number(connections.current), `of ${number(connections.limit)}, peak ${number(connections.peak)}`],
    ["Zone", el("span", { class: zone }, load.zone), `pressure ${driver}`],
    ["Waiting room", number(waiting.now), `${number(waiting.kept)} kept for tickets`],
    ["Refused", number(connections.rejected), `of ${number(connections.accepted + connections.rejected)} attempts`],
    ["Users", number(connections.uniqueUsers), `from ${number(connections.uniqueIps)} addresses`],
    ["Rooms", number(stats.rooms), `${number(messages.sent)} messages sent`],
  ].map(([name, value, more]) =>
    el("div", { class: "tile" }, el("dt", {}, name), el("dd", {}, value, el("small", {}, more))));
}

export async function overview(view, { timeline, every }) {
  const head = el("dl", { class: "tiles" });
  const drawn = charts();
  const room = el("section", { class: "card" });
  view.append(head, el("div", { class: "cards" }, drawn.map((chart) => chart.element), room));
  const draw = () => { for (const chart of drawn) chart.draw(timeline); };
  const restyle = () => { for (const chart of drawn) chart.restyle(); draw(); };
  const theme = matchMedia("(prefers-color-scheme: dark)");
  theme.addEventListener("change", restyle);
  addEventListener("resize", draw);
  timeline.listeners.add(draw);
  const stop = every(2000, async () => {
    const stats = await ask("/stats");
    head.replaceChildren(...tiles(stats));
    room.replaceChildren(el("h2", {}, "Waiting room, since the start"), table("Waiting room", ["Positions", "Count"], [
      ["waiting now", number(stats.waiting.now)],
      ...Object.entries(stats.waited).map(([event, count]) => [event, number(count)]),
    ]));
  });
  draw();
  return () => {
    stop();
    theme.removeEventListener("change", restyle);
    removeEventListener("resize", draw);
    timeline.listeners.delete(draw);
    for (const chart of drawn) chart.stop();
  };
}

