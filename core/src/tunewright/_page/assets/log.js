// The log of a job: its last lines, which grow while one looks.

import {h, replace} from "./dom.js";
import {section} from "./parts.js";

const KEPT = 5000; // lines

export class LogView {
  constructor() {
    this.next = 0; // the number of the first line that is not here yet
    this.lines = [];
    this.origins = new Set();
    this.origin = h("select", {"aria-label": "Container", change: () => this.draw()}, h("option", {value: ""}, "All containers"));
    this.find = h("input", {type: "search", placeholder: "Filter", "aria-label": "Filter the log", input: () => this.draw()});
    this.body = h("pre", {class: "log", tabindex: "0"});
    this.element = section("Log", this.body, h("div", {class: "tools"}, this.origin, this.find));
    this.draw();
  }

  // from: {first, next, lines: [[container, worker, text]]}
  add({first, next, lines}) {
    if (first < this.next || next < this.next) this.lines = []; // the server began again
    this.next = next;
    if (!lines.length) return;
    this.lines = [...this.lines, ...lines].slice(-KEPT);
    for (const line of lines) this.offer(originOf(line));
    const atEnd = this.body.scrollHeight - this.body.scrollTop - this.body.clientHeight < 40;
    if (this.empty || this.body.childElementCount + lines.length > KEPT) this.draw();
    else this.body.append(...lines.filter((line) => this.wanted(line)).map(row));
    if (atEnd) this.body.scrollTop = this.body.scrollHeight;
  }

  offer(origin) {
    if (this.origins.has(origin)) return;
    this.origins.add(origin);
    this.origin.append(h("option", {value: origin}, origin));
  }

  wanted(line) {
    return (!this.origin.value || originOf(line) === this.origin.value) && line[2].toLowerCase().includes(this.find.value.toLowerCase());
  }

  draw() {
    const shown = this.lines.filter((line) => this.wanted(line));
    this.empty = !shown.length;
    replace(this.body, this.empty ? h("span", {class: "muted"}, this.lines.length ? "No line matches." : "No lines yet.") : shown.map(row));
    this.body.scrollTop = this.body.scrollHeight;
  }
}

function originOf([container, worker]) {
  return worker ? `${container} (worker ${worker})` : container;
}

function row(line) {
  return h("div", {}, h("span", {class: "origin"}, `${originOf(line)}  `), line[2]);
}
