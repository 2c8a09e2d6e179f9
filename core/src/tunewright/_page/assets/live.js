// The live page: asks the server, draws, and asks again.

import {h, replace} from "./dom.js";
import {JobView} from "./job.js";
import {CompareView} from "./compare.js";
import {ListView} from "./list.js";
import {LogView} from "./log.js";

const PAUSE = {running: 1000, other: 5000}; // milliseconds between two questions
const MOST_RUNS = 8;
const KEY = "tunewright-token";

const page = document.getElementById("page");
const status = h("span", {class: "status", role: "status"});
const notes = h("div", {class: "notes"});
page.before(h("header", {class: "bar"}, h("a", {class: "brand", href: "#/"}, "Tunewright"), h("a", {href: "#/"}, "Jobs"), status), notes);

// The token comes after the # of the address, which browsers send to nobody. It is kept for this origin, and leaves the address.
function token() {
  const found = /^#token=([\w-]+)$/.exec(location.hash);
  if (found) {
    localStorage.setItem(KEY, found[1]);
    history.replaceState(null, "", "#/");
  }
  return localStorage.getItem(KEY) || "";
}

async function ask(path) {
  const answer = await fetch(path, {headers: {Authorization: `Bearer ${token()}`}, cache: "no-store"});
  const said = await answer.json();
  if (!answer.ok) throw new Refused(answer.status, said.error);
  return said;
}

class Refused extends Error {
  constructor(code, text) {
    super(text);
    this.code = code;
  }
}

const job = (backend, name, query = "") => ask(`/api/jobs/${encodeURIComponent(backend)}/${encodeURIComponent(name)}${query}`);

// A screen has an element, and refresh(), which returns how long to wait until the next one.
class ListScreen {
  constructor() {
    this.view = new ListView();
    this.element = this.view.element;
    this.title = "Jobs";
  }
  async refresh() {
    const {jobs, problems} = await ask("/api/jobs");
    this.view.update(jobs);
    replace(notes, problems.map((text) => h("p", {class: "note"}, text)));
    return jobs.some((one) => !one.at_rest) ? PAUSE.running : PAUSE.other;
  }
}

class JobScreen {
  constructor(backend, name) {
    this.place = [backend, name];
    this.element = h("div", {}, h("p", {class: "muted"}, "Reading the job's log …"));
    this.title = name;
    this.log = new LogView();
  }
  async refresh() {
    const {log, reading, ...found} = await job(...this.place, `?log=${this.log.next}`);
    if (!this.view) {
      this.view = new JobView(found);
      this.view.log.append(this.log.element);
      replace(this.element, this.view.element);
    }
    this.view.update(found);
    this.log.add(log);
    return reading || !found.at_rest ? PAUSE.running : PAUSE.other;
  }
}

class CompareScreen {
  constructor(places) {
    this.places = places.slice(0, MOST_RUNS);
    this.element = h("div", {}, h("p", {class: "muted"}, "Reading the jobs' logs …"));
    this.title = "Comparison";
  }
  async refresh() {
    const jobs = await Promise.all(this.places.map((place) => job(...place)));
    if (!this.view) {
      this.view = new CompareView(jobs);
      replace(this.element, this.view.element);
    }
    this.view.update(jobs);
    return jobs.some((one) => one.reading || !one.at_rest) ? PAUSE.running : PAUSE.other;
  }
}

function screenOf(hash) {
  const [kind, ...rest] = hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  const places = [];
  for (let i = 0; i + 1 < rest.length; i += 2) places.push([rest[i], rest[i + 1]]);
  if (kind === "job" && places.length) return new JobScreen(...places[0]);
  if (kind === "compare" && places.length) return new CompareScreen(places);
  return new ListScreen();
}

let screen = null;
let timer = null;

async function refresh() {
  const shown = screen;
  clearTimeout(timer);
  let pause = PAUSE.other;
  try {
    pause = await shown.refresh();
    if (shown === screen) replace(status, "live");
  } catch (error) {
    if (shown === screen) failed(error);
  }
  if (shown === screen && !document.hidden) timer = setTimeout(refresh, pause);
}

function failed(error) {
  if (error instanceof Refused) {
    replace(status, "");
    replace(notes, h("p", {class: "note"}, error.message));
    if (error.code === 404) replace(screen.element);
  } else {
    replace(status, "The server does not answer. Start it again: tunewright ui");
  }
}

function show() {
  token();
  screen = screenOf(location.hash);
  document.title = `${screen.title} · Tunewright`;
  replace(notes);
  replace(page, screen.element);
  window.scrollTo(0, 0);
  refresh();
}

window.addEventListener("hashchange", show);
document.addEventListener("visibilitychange", () => document.hidden || refresh());
show();
