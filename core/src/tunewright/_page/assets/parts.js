// Pieces that several views use.

import {h} from "./dom.js";
import {Chart} from "./chart.js";
import {bytes, compact, number, percent} from "./format.js";

// Each picture, and the curves in it: key of a job's numbers → name in the legend.
const PICTURES = [
  {title: "Loss", format: number, keys: {loss: "training", eval_loss: "evaluation"}},
  {title: "Learning rate", format: number, keys: {learning_rate: "learning rate"}},
  {title: "Gradient norm", format: number, keys: {grad_norm: "gradient norm"}},
  {title: "Tokens per second", format: compact, keys: {tokens_per_second: "supervised", total_tokens_per_second: "all"}},
  {title: "Peak memory", format: bytes, keys: {peak_memory_bytes: "peak memory"}},
  {title: "Data wait", format: percent, keys: {data_wait: "share of the time"}},
  {title: "MFU", format: percent, keys: {mfu: "model FLOP/s utilisation"}},
  {title: "Evaluation accuracy", format: percent, keys: {eval_accuracy: "accuracy"}},
];

const SHORT = 24; // characters of a cell that stays on one line

const DULL = ["eval_runtime", "eval_samples_per_second", "eval_steps_per_second"];

function picturesOf(jobs) {
  const known = new Set([...DULL, ...PICTURES.flatMap((picture) => Object.keys(picture.keys))]);
  const others = [...new Set(jobs.flatMap((job) => Object.keys(job.curves)))].filter((key) => !known.has(key));
  const more = others.map((key) => ({title: key, format: number, keys: {[key]: key}}));
  return [...PICTURES, ...more].filter((picture) => Object.keys(picture.keys).some((key) => jobs.some((job) => Object.hasOwn(job.curves, key))));
}

// The curves of one job, in a colour for each; or of several, in a colour for each job.
function seriesOf(picture, jobs) {
  const several = jobs.length > 1;
  return Object.entries(picture.keys).flatMap(([key, name], curve) => jobs.map((job, run) => ({
    name: several && !curve ? job.name : name,
    shared: several && curve > 0, // by all jobs, so that its key in the legend has no colour
    steps: (job.curves[key] || {steps: []}).steps,
    values: (job.curves[key] || {values: []}).values,
    colour: several ? run : curve,
    dashed: curve > 0,
  }))).filter((one) => one.steps.length);
}

// A grid of pictures that is updated in place.
export class Pictures {
  constructor(group) {
    this.group = group;
    this.charts = new Map();
    this.element = h("div", {class: "charts"});
  }
  update(jobs) {
    for (const picture of picturesOf(jobs)) {
      if (!this.charts.has(picture.title)) {
        const chart = new Chart(this.group, picture);
        this.charts.set(picture.title, chart);
        this.element.append(chart.element);
      }
      this.charts.get(picture.title).update(seriesOf(picture, jobs));
    }
  }
}

export function chip(state) {
  return h("span", {class: `chip ${state.toLowerCase()}`}, state);
}

export function last(job, key) {
  const curve = job.curves[key];
  return curve && curve.values.length ? curve.values[curve.values.length - 1] : null;
}

export function first(job, key) {
  const curve = job.curves[key];
  return curve && curve.values.length ? curve.values[0] : null;
}

export function median(job, key) {
  const values = job.curves[key] ? [...job.curves[key].values].sort((a, b) => a - b) : [];
  return values.length ? values[Math.floor(values.length / 2)] : null;
}

export function highest(job, key) {
  const curve = job.curves[key];
  return curve ? curve.values.reduce((a, b) => Math.max(a, b), -Infinity) : null;
}

export function section(title, body, extra) {
  return h("section", {}, h("div", {class: "head"}, h("h2", {}, title), extra), body);
}

export function facts(rows) {
  const known = rows.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== "–");
  return known.length ? h("dl", {class: "facts"}, known.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])) : null;
}

function short(cell) {
  return typeof cell === "string" && cell.length <= SHORT ? "short" : null;
}

export function table(head, rows) {
  return h("div", {class: "scroll"}, h("table", {},
    h("thead", {}, h("tr", {}, head.map((title) => h("th", {scope: "col"}, title)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, i) => h(i ? "td" : "th", {scope: i ? null : "row", class: short(cell)}, cell)))))));
}
