// All jobs, newest first.

import {h, replace} from "./dom.js";
import {duration, elapsed, number, when} from "./format.js";
import {chip} from "./parts.js";

export function address(job) {
  return `#/job/${encodeURIComponent(job.backend)}/${encodeURIComponent(job.name)}`;
}

export class ListView {
  constructor() {
    this.jobs = [];
    this.chosen = new Map();
    this.find = h("input", {type: "search", placeholder: "Filter by name, state or model", "aria-label": "Filter", input: () => this.draw()});
    this.compare = h("a", {class: "button", hidden: true}, "Compare");
    this.body = h("div", {});
    this.element = h("article", {class: "list"}, h("div", {class: "headline"}, h("h1", {}, "Jobs"), h("div", {class: "tools"}, this.find, this.compare)), this.body);
  }

  update(jobs) {
    const key = JSON.stringify(jobs) + (jobs.some((job) => job.started && !job.finished) ? Date.now() : "");
    if (key === this.key) return;
    this.key = key;
    this.jobs = jobs;
    this.draw();
  }

  draw() {
    const words = this.find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const text = (job) => `${job.name} ${job.state} ${job.model} ${job.backend}`.toLowerCase();
    const shown = this.jobs.filter((job) => words.every((word) => text(job).includes(word)));
    replace(this.body, shown.length ? this.table(shown) : h("p", {class: "empty"}, this.jobs.length ? "No job matches." : "There are no jobs yet. Start one: tunewright train job.yaml"));
    this.link();
  }

  table(jobs) {
    const backends = new Set(this.jobs.map((job) => job.backend)).size > 1;
    const head = ["", "Name", "State", "Model", "Loss", "Duration", "Submitted", ...(backends ? ["Backend"] : [])];
    return h("table", {class: "jobs"}, h("thead", {}, h("tr", {}, head.map((title) => h("th", {scope: "col"}, title)))), h("tbody", {}, jobs.map((job) => this.row(job, backends))));
  }

  row(job, backends) {
    const key = address(job);
    const box = h("input", {type: "checkbox", checked: this.chosen.has(key), "aria-label": `Compare ${job.name}`, change: (event) => {
      if (event.target.checked) this.chosen.set(key, job);
      else this.chosen.delete(key);
      this.link();
    }});
    const cell = (title, ...content) => h("td", {"data-title": title, class: title.toLowerCase()}, content);
    return h("tr", {}, h("td", {class: "pick"}, box), h("th", {scope: "row"}, h("a", {href: key}, job.name)),
      cell("State", chip(job.state), job.state === "Succeeded" ? null : h("span", {class: "muted detail"}, job.detail)),
      cell("Model", job.model), cell("Loss", job.loss === null ? "–" : number(job.loss)),
      cell("Duration", duration(elapsed(job, new Date()))), cell("Submitted", when(job.created)), backends ? cell("Backend", job.backend) : null);
  }

  link() {
    const jobs = [...this.chosen.values()];
    this.compare.hidden = jobs.length < 2;
    this.compare.setAttribute("href", `#/compare/${jobs.map((job) => `${encodeURIComponent(job.backend)}/${encodeURIComponent(job.name)}`).join("/")}`);
    replace(this.compare, `Compare ${jobs.length} jobs`);
  }
}
