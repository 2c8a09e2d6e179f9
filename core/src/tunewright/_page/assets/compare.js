// Several jobs beside each other.

import {h, part} from "./dom.js";
import {Group} from "./chart.js";
import {bytes, compact, count, duration, elapsed, number, percent, plain} from "./format.js";
import {Pictures, chip, first, highest, last, median, section, table} from "./parts.js";

export class CompareView {
  constructor(jobs) {
    const numbers = h("div", {});
    const settings = h("div", {});
    this.group = new Group();
    this.pictures = new Pictures(this.group);
    this.element = h("article", {class: "compare"}, h("div", {class: "headline"}, h("h1", {}, `Comparison of ${jobs.length} jobs`)),
      numbers, section("Curves", this.pictures.element, this.group.controls()), settings);
    this.parts = [[part(numbers, outcomes), outcomesOf], [part(settings, differences), differencesOf]];
    this.update(jobs);
  }
  update(jobs) {
    for (const [redraw, from] of this.parts) redraw(from(jobs));
    this.pictures.update(jobs);
  }
}

function outcomesOf(jobs) {
  const known = (value, format) => (value === null || value === undefined ? "–" : format(value));
  return jobs.map((job) => [
    job.name, job.state, known(first(job, "loss"), number), known(last(job, "loss"), number), known(last(job, "eval_loss"), number),
    job.total_steps ? `${count(job.step)} of ${count(job.total_steps)}` : known(job.step || null, count),
    known(elapsed(job, new Date()), duration), known(median(job, "tokens_per_second"), compact),
    known(highest(job, "peak_memory_bytes"), bytes), known(median(job, "mfu"), percent), known(median(job, "data_wait"), percent),
  ]);
}

function outcomes(rows) {
  const head = ["job", "state", "first loss", "last loss", "evaluation loss", "steps", "duration", "tokens/s", "peak memory", "MFU", "data wait"];
  const used = head.map((_, i) => i < 2 || rows.some((row) => row[i] !== "–"));
  const cells = ([name, state, ...rest], run) => [h("span", {class: "run"}, h("i", {class: `swatch c${run % 8}`}), name), chip(state), ...rest];
  return section("Outcome", table(head.filter((_, i) => used[i]), rows.map((row, run) => cells(row, run).filter((_, i) => used[i]))));
}

function differencesOf(jobs) {
  const keys = [...new Set(jobs.flatMap((job) => Object.keys(job.settings)))].filter((key) => key !== "name");
  const value = (job, key) => (Object.hasOwn(job.settings, key) ? plain(job.settings[key]) : "–");
  const rows = keys.map((key) => [key, ...jobs.map((job) => value(job, key))]).filter(([, ...values]) => new Set(values).size > 1);
  return {names: jobs.map((job) => job.name), rows};
}

function differences({names, rows}) {
  if (!rows.length) return section("Differences", h("p", {class: "muted"}, "The job files of these jobs differ in nothing but their names."));
  const code = ([key, ...values]) => [h("code", {}, key), ...values.map((value) => h("code", {}, value))];
  return section("Differences between the job files", table(["key", ...names], rows.map(code)));
}
