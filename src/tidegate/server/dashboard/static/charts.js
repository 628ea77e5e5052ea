// Charts over the timeline, drawn by uPlot in the colours of the page.

import { el } from "./dom.js";

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const clock = (at) => new Date(at * 1000).toLocaleTimeString();

export class Chart {
  // `series` returns [label, values][] of a timeline; its length may change.
  // `least` is how far the scale reaches even when all values are smaller.
  constructor(title, series, format, least = 1e-9) {
    this.series = series;
    this.format = format;
    this.least = least;
    this.place = el("div", { role: "img", "aria-label": title });
    this.element = el("section", { class: "card" }, el("h2", {}, title), this.place);
    this.labels = null;
  }

  draw(timeline) {
    const series = this.series(timeline);
    const labels = series.map(([label]) => label).join("\n");
    const data = [timeline.times, ...series.map(([, values]) => values)];
    const width = this.place.clientWidth;
    if (!width) return;
    if (labels !== this.labels) this.make(series, width);
    if (this.plot.width !== width) this.plot.setSize({ width, height: 180 });
    this.plot.setData(data);
    if (this.plot.cursor.idx == null) this.plot.setLegend({ idx: data[0].length - 1 });
    this.describe(series);
  }

  make(series, width) {
    this.labels = series.map(([label]) => label).join("\n");
    this.plot?.destroy();
    const axis = { stroke: css("--quiet"), grid: { stroke: css("--line"), width: 1 }, ticks: { show: false } };
    const value = (_, number) => (number == null ? "-" : this.format(number));
    this.plot = new uPlot(
      {
        width,
        height: 180,
        padding: [null, 36, null, null], // room for the last time
        cursor: { y: false },
        scales: { y: { range: (_, low, high) => [0, Math.max(high ?? 0, this.least) * 1.1] } },
        axes: [{ ...axis, space: 90, values: (_, ticks) => ticks.map(clock) }, { ...axis, size: 64, values: (_, ticks) => ticks.map(this.format) }],
        series: [
          { value: (_, at) => (at == null ? "-" : clock(at)) },
          ...series.map(([label], index) => ({
            label, value, stroke: css(`--chart-${(index % 6) + 1}`), width: 1.5, points: { show: false },
          })),
        ],
      },
      [[], ...series.map(() => [])],
      this.place,
    );
  }

  // What somebody hears who does not see the chart.
  describe(series) {
    const last = series.map(([label, values]) => {
      const value = values.at(-1);
      return `${label} ${value == null ? "unknown" : this.format(value)}`;
    });
    this.place.setAttribute("aria-label", `${this.element.firstChild.textContent}: ${last.join(", ")}`);
  }

  restyle() { this.labels = null; }

  stop() { this.plot?.destroy(); }
}
