// One job, from its state to its job file.

import {h, part, replace} from "./dom.js";
import {Group} from "./chart.js";
import {bytes, compact, count, duration, elapsed, number, percent, plain, when} from "./format.js";
import {Pictures, chip, facts, first, highest, last, median, section, table} from "./parts.js";

// A view has an element, and update(job), which draws what has changed.
export class JobView {
  constructor(job) {
    const places = {};
    const place = (name) => (places[name] = h("div", name === "tiles" ? {class: "tiles"} : {}));
    this.group = new Group();
    this.pictures = new Pictures(this.group);
    this.curves = section("Curves", this.pictures.element, this.group.controls());
    this.element = h("article", {class: "job"}, place("top"), place("tiles"), place("failure"), place("next"), this.curves,
      place("samples"), place("data"), h("div", {class: "columns"}, place("states"), place("environment")), place("transfers"), place("file"), place("log"));
    this.log = places.log;
    const draw = (name, from, how) => {
      const redraw = part(places[name], how);
      return (one) => redraw(from(one));
    };
    const pick = (...keys) => (one) => Object.fromEntries(keys.map((key) => [key, one[key]]));
    this.parts = [
      draw("top", pick("name", "state", "detail", "backend", "model", "dataset", "trainer", "step", "total_steps", "failure"), top),
      draw("tiles", tilesOf, tiles),
      draw("failure", pick("failure"), failure),
      draw("next", pick("next_commands"), next),
      draw("samples", pick("samples"), samples),
      draw("data", pick("data"), data),
      draw("states", pick("states", "attempts", "created", "started", "finished"), states),
      draw("environment", pick("environment", "images", "versions", "workers", "processes", "labels", "result", "checkpoints"), environment),
      draw("transfers", pick("downloads", "uploads"), transfers),
      draw("file", pick("job_file", "request", "command", "name"), file),
    ];
    this.update(job);
  }
  update(job) {
    for (const redraw of this.parts) redraw(job);
    this.pictures.update([job]);
    this.curves.hidden = !Object.keys(job.curves).length;
  }
}

function top(job) {
  const share = job.total_steps ? Math.min(1, job.step / job.total_steps) : null;
  const ways = [["model", job.model], ["dataset", job.dataset], ["trainer", job.trainer], ["backend", job.backend]].filter(([, text]) => text);
  const bar = h("progress", {max: 1, value: share || 0, "aria-label": "steps"});
  return [
    h("div", {class: "headline"}, h("h1", {}, job.name), chip(job.state)),
    h("p", {class: "ways"}, ways.map(([name, text]) => h("span", {}, h("span", {class: "muted"}, name + " "), h("code", {}, text)))),
    job.detail && !job.failure && !/^step \d+\/\d+$/.test(job.detail) ? h("p", {class: "detail"}, job.detail) : null,
    share === null ? null : h("div", {class: "progress"}, bar, h("span", {}, `step ${count(job.step)} of ${count(job.total_steps)} (${Math.floor(share * 100)}%)`)),
  ];
}

function tilesOf(job) {
  const seconds = elapsed(job, new Date());
  const from = first(job, "loss");
  const to = last(job, "loss");
  const known = (value, format) => (value === null ? null : format(value));
  const change = from && to !== null && from !== to ? `${to > from ? "+" : "−"}${percent(Math.abs(to / from - 1))} since the first step` : "";
  const found = [
    ["Loss", known(to, number), change],
    ["Evaluation loss", known(last(job, "eval_loss"), number), ""],
    ["Duration", known(seconds, duration), left(job)],
    ["Tokens per second", known(median(job, "tokens_per_second"), compact), "median"],
    ["Peak memory", known(highest(job, "peak_memory_bytes"), bytes), ""],
    ["MFU", known(median(job, "mfu"), percent), "median"],
    ["Data wait", known(median(job, "data_wait"), percent), "median"],
    ["Gradient norm", known(last(job, "grad_norm"), number), "last"],
  ];
  return found.filter(([, value]) => value !== null);
}

// The time left, from the speed between the first and the last step that were logged.
function left(job) {
  const running = (job.states || []).filter((one) => one.state === "Running").pop();
  if (job.state !== "Running" || !running || !running.since || !job.total_steps || !job.step) return "";
  const spent = (new Date() - new Date(running.since)) / 1000;
  return `about ${duration(spent / job.step * (job.total_steps - job.step))} left`;
}

function tiles(found) {
  return found.map(([name, value, note]) => h("div", {class: "tile"}, h("span", {class: "name"}, name), h("strong", {}, value), h("small", {}, note)));
}

function failure({failure: found}) {
  if (!found) return null;
  const where = found.container ? ` in ${found.container}${found.worker === undefined || found.worker === null ? "" : `, worker ${found.worker}`}` : "";
  return h("div", {class: "alert", role: "alert"}, h("h2", {}, `Failed${where} (exit code ${found.code})`), h("p", {}, found.cause), found.remedy ? h("p", {}, h("b", {}, "What to do: "), found.remedy) : null);
}

function next({next_commands: found}) {
  if (!found || !found.length) return null;
  const text = found.join("\n");
  return section("Use the result", h("pre", {class: "code"}, text), copier(text));
}

function samples({samples: found}) {
  if (!found.length) return null;
  const answer = (title, text) => (text === null ? null : h("div", {class: "answer"}, h("span", {class: "name"}, title), h("div", {class: "said"}, text || "(nothing)")));
  return section("Samples", found.map((one) => h("div", {class: "sample"}, h("div", {class: "prompt"}, one.prompt),
    h("div", {class: "answers"}, answer("before training", one.before), answer(one.before === null ? "answer" : "after training", one.after)))));
}

function data({data: splits}) {
  const names = Object.keys(splits);
  if (!names.length) return null;
  const keys = [...new Set(names.flatMap((name) => Object.keys(splits[name])))].filter((key) => key !== "reasons");
  const cell = (value) => (Number.isInteger(value) ? count(value) : typeof value === "number" ? number(value) : plain(value));
  const reasons = names.flatMap((name) => Object.entries(splits[name].reasons || {}).map(([why, times]) => [name, count(times), why]));
  return section("Data", [
    table(["split", ...keys.map((key) => key.replaceAll("_", " "))], names.map((name) => [name, ...keys.map((key) => (Object.hasOwn(splits[name], key) ? cell(splits[name][key]) : "–"))])),
    reasons.length ? table(["split", "rows dropped", "because"], reasons) : null,
  ]);
}

function states(job) {
  const times = facts([["submitted", when(job.created)], ["started", when(job.started)], ["ended", when(job.finished)], ["attempts", job.attempts > 1 ? count(job.attempts) : ""]]);
  if (!times && !job.states.length) return null;
  return section("Timeline", [times, h("ol", {class: "states"}, job.states.map((one) => h("li", {}, chip(one.state), h("span", {class: "muted"}, when(one.since)), h("span", {}, one.detail))))]);
}

function environment(job) {
  const {device, devices, libraries} = job.environment;
  const versions = Object.entries({...job.versions, ...libraries}).map(([name, version]) => h("span", {class: "version"}, `${name} `, h("b", {}, plain(version))));
  const checkpoints = job.checkpoints.length > 6 ? `${job.checkpoints.length}, the last at step ${job.checkpoints[job.checkpoints.length - 1]}` : job.checkpoints.join(", ");
  const rows = facts([
    ["device", device ? `${devices > 1 ? `${devices} × ` : ""}${device}` : ""],
    ["workers", `${job.workers}, ${job.processes} ${job.processes === 1 ? "process" : "processes"} each`],
    ["result", job.result], ["checkpoints", checkpoints],
    ["labels", Object.entries(job.labels).map(([key, value]) => `${key}=${value}`).join(", ")],
    ["images", [...new Set(Object.values(job.images))].join(", ")],
    ["versions", versions.length ? h("span", {class: "versions"}, versions) : ""],
  ]);
  return section("Environment and result", rows);
}

function transfers({downloads, uploads}) {
  const from = downloads.map((one) => [one.worker ? `${one.slot} (worker ${one.worker})` : one.slot, count(one.files), one.size, one.rate, one.revision || "–"]);
  const to = uploads.map((one) => [one.item, count(one.files), bytes(one.bytes), one.uri]);
  if (!from.length && !to.length) return null;
  return [
    from.length ? section("Downloads", table(["input", "files", "size", "speed", "revision"], from)) : null,
    to.length ? section("Uploads", table(["item", "files", "size", "to"], to)) : null,
  ];
}

function file(job) {
  if (job.job_file) {
    const note = h("p", {class: "muted"}, "Save it as job.yaml and repeat the job, under another name if this one is still there: ", h("code", {}, "tunewright train job.yaml"));
    return section("Job file", [note, h("pre", {class: "code"}, job.job_file)], copier(job.job_file));
  }
  const asked = {command: job.command, ...job.request};
  return section("Request", h("pre", {class: "code"}, JSON.stringify(asked, null, 2)));
}

function copier(text) {
  const button = h("button", {type: "button", click: () => {
    const done = (word) => {
      replace(button, word);
      setTimeout(() => replace(button, "Copy"), 2000);
    };
    if (!navigator.clipboard) return done("Select the text to copy it");
    return navigator.clipboard.writeText(text).then(() => done("Copied"), () => done("Select the text to copy it"));
  }}, "Copy");
  return button;
}
