// Numbers, times and sizes for people.

const UNITS = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];

export function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (size >= 1e6 || size < 1e-3) return value.toExponential(2).replace(/\.?0*e\+?/, "e");
  if (size >= 1000) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(4)));
}

export function count(value) {
  return value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en");
}

export function compact(value) {
  for (const [unit, letter] of UNITS) if (Math.abs(value) >= unit) return Number((value / unit).toPrecision(3)) + letter;
  return number(value);
}

export function bytes(value) {
  for (const [unit, letter] of UNITS) if (value >= unit) return Number((value / unit).toPrecision(3)) + " " + letter + "B";
  return value + " B";
}

export function percent(value) {
  return Number((value * 100).toPrecision(3)) + "%";
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  const whole = Math.max(0, Math.round(seconds));
  const parts = [[Math.floor(whole / 86400), "d"], [Math.floor(whole / 3600) % 24, "h"], [Math.floor(whole / 60) % 60, "min"], [whole % 60, "s"]];
  const first = parts.findIndex(([amount]) => amount > 0);
  if (first < 0) return "0 s";
  return parts.slice(first, first + 2).filter(([amount]) => amount > 0).map(([amount, unit]) => amount + " " + unit).join(" ");
}

export function when(text) {
  if (!text) return "–";
  const moment = new Date(text);
  if (Number.isNaN(moment.getTime())) return text;
  const day = moment.toLocaleDateString("en", {day: "numeric", month: "short", year: "numeric"});
  return day + ", " + moment.toLocaleTimeString("en", {hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23"});
}

// How long a job has run: to its end, or until now.
export function elapsed(job, now) {
  if (job.seconds !== null && job.seconds !== undefined) return job.seconds;
  if (!job.started) return null;
  return ((job.finished ? new Date(job.finished) : now) - new Date(job.started)) / 1000;
}

export function plain(value) {
  if (value === null || value === undefined) return "–";
  return typeof value === "string" ? value : JSON.stringify(value);
}
