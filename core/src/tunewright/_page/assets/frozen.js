// The frozen page: what is in the page itself.

import {h} from "./dom.js";
import {JobView} from "./job.js";
import {CompareView} from "./compare.js";

const {jobs} = JSON.parse(document.getElementById("data").textContent);
const view = jobs.length === 1 ? new JobView(jobs[0]) : new CompareView(jobs);
document.getElementById("page").append(view.element, h("footer", {class: "muted"}, "A report of Tunewright. It needs no network."));
