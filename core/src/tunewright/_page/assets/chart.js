// Curves as SVG, drawn at the size that they have on the screen.

import {h, svg, replace} from "./dom.js";
import {count} from "./format.js";

const HEIGHT = 190;
const EDGE = {left: 52, right: 12, top: 10, bottom: 24};
const COLOURS = 8;
const SMOOTH = 0.9; // of an exponential moving average, corrected for its start as in Adam

// What all curves of a view share: the step under the pointer, and how they are drawn.
export class Group {
  constructor() {
    this.charts = [];
    this.smooth = false;
    this.log = false;
  }
  point(step) {
    for (const chart of this.charts) chart.mark(step);
  }
  set(option, value) {
    this[option] = value;
    for (const chart of this.charts) chart.draw();
  }
  controls() {
    const box = (option, text) => h("label", {class: "toggle"},
      h("input", {type: "checkbox", change: (event) => this.set(option, event.target.checked)}), text);
    return h("div", {class: "controls"}, box("smooth", "Smooth"), box("log", "Log scale"));
  }
}

export class Chart {
  // series: [{name, steps, values, colour, dashed}]
  constructor(group, {title, format}) {
    this.group = group;
    this.title = title;
    this.format = format;
    this.series = [];
    this.width = 0;
    this.plot = svg("svg", {class: "plot", role: "img", tabindex: "0", height: HEIGHT,
      pointermove: (event) => this.pointed(event), pointerdown: (event) => this.pointed(event),
      pointerleave: () => group.point(null), keydown: (event) => this.moved(event), blur: () => group.point(null)});
    this.last = h("span", {class: "last"});
    this.legend = h("div", {class: "legend"});
    this.element = h("figure", {class: "chart"}, h("figcaption", {}, h("span", {class: "title"}, title), this.last), this.legend, this.plot);
    group.charts.push(this);
    new ResizeObserver(() => this.resized()).observe(this.element);
  }

  update(series) {
    const key = JSON.stringify(series);
    if (key === this.key) return;
    this.key = key;
    this.series = series;
    this.draw();
  }

  resized() {
    const width = Math.floor(this.plot.getBoundingClientRect().width);
    if (width && width !== this.width) {
      this.width = width;
      this.draw();
    }
  }

  draw() {
    if (!this.width) return;
    const shown = this.series.map((one) => ({...one, drawn: this.group.smooth && !one.dashed ? smoothed(one.values) : one.values}));
    this.log = this.group.log && shown.every((one) => one.values.every((value) => value > 0));
    this.x = scale(extent(shown.map((one) => one.steps)), EDGE.left, this.width - EDGE.right);
    this.y = scale(padded(extent(shown.map((one) => one.values)).map(this.log ? Math.log10 : (value) => value)), HEIGHT - EDGE.bottom, EDGE.top);
    this.cross = svg("g", {class: "cross"});
    replace(this.plot, this.axes(), shown.map((one) => this.line(one)), this.cross);
    this.plot.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`);
    this.plot.setAttribute("aria-label", this.label());
    this.mark(null);
    const keys = [...new Map(this.series.map((one) => [one.name, one])).values()];
    replace(this.legend, keys.length > 1 ? keys.map((one) =>
      h("span", {class: "key"}, h("i", {class: `swatch ${one.shared ? "" : `c${one.colour % COLOURS}`} ${one.dashed ? "dashed" : ""}`}), one.name)) : []);
  }

  height(value) {
    return this.y(this.log ? Math.log10(value) : value);
  }

  axes() {
    const [low, high] = this.y.domain;
    const rows = this.log ? powers(low, high) : ticks(low, high, 4).map((value) => [value, value]);
    const columns = ticks(this.x.domain[0], this.x.domain[1], Math.max(2, Math.floor(this.width / 75))).filter(Number.isInteger);
    return [
      rows.map(([place, value]) => [
        svg("line", {class: "grid", x1: EDGE.left, x2: this.width - EDGE.right, y1: this.y(place), y2: this.y(place)}),
        svg("text", {class: "tick", x: EDGE.left - 8, y: this.y(place) + 4, "text-anchor": "end"}, this.format(value)),
      ]),
      columns.map((value) => svg("text", {class: "tick", x: this.x(value), y: HEIGHT - 6,
        "text-anchor": this.x(value) > this.width - 40 ? "end" : "middle"}, count(value))),
    ];
  }

  line(one) {
    const colour = `c${one.colour % COLOURS}`;
    const path = (values) => values.map((value, i) => `${i ? "L" : "M"}${this.x(one.steps[i]).toFixed(1)} ${this.height(value).toFixed(1)}`).join("");
    const dots = one.steps.length === 1 || (one.dashed && one.steps.length <= 40);
    return [
      one.drawn === one.values ? null : svg("path", {class: `line faint ${colour}`, d: path(one.values)}),
      svg("path", {class: `line ${colour}${one.dashed ? " dashed" : ""}`, d: path(one.drawn)}),
      dots ? one.steps.map((step, i) => svg("circle", {class: `dot ${colour}`, cx: this.x(step), cy: this.height(one.drawn[i]), r: 3})) : null,
    ];
  }

  pointed(event) {
    const place = event.clientX - this.plot.getBoundingClientRect().left;
    this.group.point(this.nearest(this.x.inverse(place)));
  }

  moved(event) {
    const way = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    const steps = (this.series[0] || {steps: []}).steps;
    if (!way || !steps.length) return;
    event.preventDefault();
    const at = this.at === null ? steps.length : steps.indexOf(this.nearest(this.at));
    this.group.point(steps[Math.min(steps.length - 1, Math.max(0, at + way))]);
  }

  nearest(step) {
    let best = null;
    for (const one of this.series) {
      const found = one.steps[closest(one.steps, step)];
      if (best === null || Math.abs(found - step) < Math.abs(best - step)) best = found;
    }
    return best;
  }

  // Mark a step: a line, a dot on each curve, and the values in place of the last ones.
  mark(step) {
    this.at = step;
    if (!this.width) return;
    replace(this.cross);
    const read = this.series.filter((one) => one.steps.length).map((one) => {
      const i = step === null ? one.steps.length - 1 : closest(one.steps, step);
      if (step !== null) this.cross.append(svg("circle", {class: `dot c${one.colour % COLOURS}`, cx: this.x(one.steps[i]), cy: this.height(one.values[i]), r: 4}));
      return h("b", {class: `c${one.colour % COLOURS}`}, this.format(one.values[i]));
    });
    if (step !== null) this.cross.prepend(svg("line", {x1: this.x(step), x2: this.x(step), y1: EDGE.top, y2: HEIGHT - EDGE.bottom}));
    replace(this.last, step === null ? null : h("span", {class: "muted"}, `step ${count(step)}`), read);
  }

  label() {
    const said = this.series.filter((one) => one.steps.length).map((one) => {
      const last = one.steps.length - 1;
      return `${one.name}: ${this.format(one.values[0])} at step ${one.steps[0]}, ${this.format(one.values[last])} at step ${one.steps[last]}`;
    });
    return `${this.title}. ${said.join("; ")}`;
  }
}

function smoothed(values) {
  let sum = 0;
  return values.map((value, i) => {
    sum = SMOOTH * sum + (1 - SMOOTH) * value;
    return sum / (1 - SMOOTH ** (i + 1));
  });
}

function extent(lists) {
  let low = Infinity;
  let high = -Infinity;
  for (const list of lists) for (const value of list) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low > high ? [0, 1] : [low, high];
}

function padded([low, high]) {
  if (low === high) return [low - (Math.abs(low) || 1) * 0.1, high + (Math.abs(high) || 1) * 0.1];
  const room = (high - low) * 0.05;
  return [low >= 0 && low - room < 0 ? Math.max(0, low - room) : low - room, high + room];
}

function scale([low, high], from, to) {
  const span = high - low || 1;
  const place = (value) => high === low ? (from + to) / 2 : from + (value - low) / span * (to - from);
  place.inverse = (pixel) => low + (pixel - from) / (to - from) * span;
  place.domain = [low, high];
  return place;
}

function ticks(low, high, wanted) {
  const rough = (high - low) / wanted;
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const first = Math.ceil(low / step);
  const found = [];
  for (let i = first; i * step <= high && found.length < 50; i += 1) found.push(Number((i * step).toPrecision(12)));
  return found;
}

// Ticks of a logarithmic axis: its powers of ten, or steps between where there are none.
function powers(low, high) {
  const whole = [];
  for (let power = Math.ceil(low); power <= high; power += Math.max(1, Math.ceil((high - low) / 5))) whole.push([power, 10 ** power]);
  return whole.length > 1 ? whole : ticks(10 ** low, 10 ** high, 4).filter((value) => value > 0).map((value) => [Math.log10(value), value]);
}

function closest(steps, step) {
  let low = 0;
  let high = steps.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (steps[middle] <= step) low = middle;
    else high = middle;
  }
  return Math.abs(steps[high] - step) < Math.abs(step - steps[low]) ? high : low;
}
