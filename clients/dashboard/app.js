// The page: jobs with live progress, models, and the comparison of chosen jobs.
// Names come from strangers: everything goes in as text, nothing as markup.

import { Refused, follow, replay, request, setToken } from "/ui/api.js";
import { chartsOf, runningCharts } from "/ui/charts.js";
import { bytes, count, metric, time } from "/ui/format.js";

const $ = (id) => document.getElementById(id);
const FINAL = new Set(["succeeded", "failed", "cancelled", "lost"]);

const jobs = new Map(); // id → job as the API shows it
const chosen = new Set(); // ids to compare
const curves = new Map(); // id of a running job → { step, points: Map of series → Map of sample → value }
let olderCursor = null;

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function fail(error) {
  if (error instanceof Refused && error.status === 401) {
    $("token-form").hidden = false;
    return;
  }
  $("connection").textContent = error.message;
  $("connection").className = "lost";
}

// ── Jobs ──

function progressCell(job) {
  const cell = element("td", { className: `state-${job.state}` }, job.state);
  if (job.verdict) {
    cell.append(` (asserts: ${job.verdict})`);
  }
  if (job.state === "running" && job.progress) {
    const { percent = 0, stage = "", pass = "", eta_s } = job.progress;
    const bar = element("progress", { max: 100, value: percent });
    bar.setAttribute("aria-label", `Progress of ${job.name || job.id}`);
    const left = eta_s == null ? "" : `, ${Math.round(eta_s)} s left`;
    cell.append(" ", bar, ` ${Math.round(percent)} % ${pass} ${stage}${left}`);
    const figures = Object.entries(job.progress.figures ?? {})
      .map(([name, value]) => `${name.replaceAll("_", " ")} ${value?.toPrecision(4) ?? "–"}`);
    if (figures.length > 0) {
      cell.append(element("div", { className: "soft wrap" }, figures.join(", ")));
    }
  }
  if (job.error?.detail) {
    cell.append(element("div", { className: "soft wrap" }, job.error.detail));
  }
  return cell;
}

function actionsCell(job) {
  const cell = element("td");
  if (FINAL.has(job.state)) {
    cell.append(element("a", { href: `/v1/jobs/${job.id}/report` }, "report"));
  } else {
    const cancel = element("button", { type: "button" }, "Cancel");
    cancel.onclick = () => request(`/v1/jobs/${job.id}/cancel`, { method: "POST" }).catch(fail);
    cell.append(cancel);
  }
  return cell;
}

function jobRow(job) {
  const label = job.name || job.id;
  const box = element("input", { type: "checkbox", checked: chosen.has(job.id), disabled: !FINAL.has(job.state) });
  box.setAttribute("aria-label", `Compare ${label}`);
  box.onchange = () => {
    chosen[box.checked ? "add" : "delete"](job.id);
    showComparison().catch(fail);
  };
  const passes = (job.pipeline ?? []).map((step) => step.pass).join(" → ");
  const row = element("tr", { id: job.id },
    element("td", {}, box),
    element("th", { scope: "row", title: job.id }, label),
    progressCell(job),
    element("td", {}, job.model ?? ""),
    element("td", {}, passes),
    element("td", {}, time(job.created)),
    actionsCell(job));
  return row;
}

// ── Training that goes on ──

function keepFigures({ job, step, done, figures = {} }) {
  if (curves.get(job)?.step !== step) {
    curves.set(job, { step, points: new Map() });
  }
  const { points } = curves.get(job);
  for (const [series, value] of Object.entries(figures)) {
    if (!points.has(series)) {
      points.set(series, new Map());
    }
    points.get(series).set(done, value);
  }
}

// A figure of an epoch is told until the next epoch has one: only changes are points.
function changes(points) {
  const sorted = [...points].sort((a, b) => a[0] - b[0]);
  return sorted.filter(([, value], i) => i === 0 || value !== sorted[i - 1][1]);
}

function showRunning() {
  const charts = [];
  for (const [id, { points }] of curves) {
    const job = jobs.get(id);
    if (job?.state === "running") {
      const drawn = Object.fromEntries([...points].map(([series, values]) => [series, changes(values)]));
      charts.push(...runningCharts(`${job.name || id}, ${job.progress?.pass ?? ""}`, drawn));
    } else {
      curves.delete(id);
    }
  }
  $("running").replaceChildren(...charts);
}

// What was told of the step before its first event that this page saw.
async function catchUp({ job, step, done }) {
  try {
    await replay(job, (kind, event) => {
      if (kind !== "progress" || event.step < step) {
        return false;
      }
      if (curves.get(job)?.step === event.step) {
        keepFigures({ ...event, job });
      }
      return event.step > step || event.done >= done;
    });
  } catch { /* all is told */ }
  showRunning();
}

const rank = (job) => (job.state === "running" ? 0 : job.state === "queued" ? 1 : 2);

function byInterest(a, b) {
  return rank(a) - rank(b) || (a.id < b.id ? 1 : -1); // ids grow with time
}

function showJobs() {
  $("jobs").replaceChildren(...[...jobs.values()].sort(byInterest).map(jobRow));
  $("jobs-empty").hidden = jobs.size > 0;
  $("jobs-more").hidden = olderCursor === null;
  showRunning();
}

async function loadJobs(cursor) {
  const page = await request(cursor ? `/v1/jobs?cursor=${encodeURIComponent(cursor)}` : "/v1/jobs");
  for (const job of page.items) {
    jobs.set(job.id, job);
  }
  olderCursor = page.next_cursor ?? null;
  showJobs();
}

async function loadJob(id) {
  try {
    jobs.set(id, await request(`/v1/jobs/${id}`));
  } catch (error) {
    if (!(error instanceof Refused && error.status === 404)) {
      throw error;
    }
    jobs.delete(id); // deleted meanwhile
  }
  showJobs();
  if (chosen.has(id)) {
    await showComparison();
  }
}

function onEvent(kind, event) {
  const job = jobs.get(event.job);
  if (kind === "progress" && job) {
    job.progress = event;
    job.state = "running";
    const row = $(job.id);
    row?.replaceChild(progressCell(job), row.children[2]);
    const known = curves.has(job.id);
    keepFigures(event);
    if (!known && event.figures) {
      catchUp(event);
    }
    showRunning();
  } else if (event.job) {
    loadJob(event.job).catch(fail);
  }
}

// ── Comparison ──

function cellOf(column, row) {
  const value = row.cells[column.name];
  if (value == null) {
    return element("td", { className: "number", title: row.why?.[column.name] ?? "" }, "–");
  }
  let className = "number";
  if (column.name.startsWith("speedup") || column.name === "compression") {
    className += value > 1.02 ? " better" : value < 0.98 ? " worse" : "";
  }
  return element("td", { className }, metric(column, value));
}

function showTable({ columns, rows }) {
  const title = (column) => (column.unit ? `${column.title} (${column.unit})` : column.title);
  const [head, body] = [$("compare").tHead, $("compare").tBodies[0]];
  head.replaceChildren(element("tr", {},
    ...["Model", "Job", "Step"].map((title) => element("th", { scope: "col" }, title)),
    ...columns.map((column) => element("th", { scope: "col", className: "number" }, title(column)))));
  body.replaceChildren(...rows.map((row) => element("tr", {},
    element("td", {}, row.model), element("td", {}, jobs.get(row.job)?.name || row.job_name || ""),
    element("th", { scope: "row" }, row.pass),
    ...columns.map((column) => cellOf(column, row)))));

  const reasons = new Set(rows.flatMap((row) => Object.values(row.why ?? {})));
  $("compare-why").replaceChildren(...[...reasons].map((why) => element("li", {}, why)));
}

async function showComparison() {
  const ids = [...chosen].join(",");
  const none = chosen.size === 0;
  $("compare").hidden = $("compare-links").hidden = none;
  $("compare-hint").hidden = !none;
  if (none) {
    $("compare-why").replaceChildren();
    $("charts").replaceChildren();
    return;
  }
  for (const format of ["csv", "markdown"]) {
    $(`compare-${format}`).href = `/v1/compare?ids=${ids}&format=${format}`;
  }
  showTable(await request(`/v1/compare?ids=${ids}`));
  const reports = await Promise.all([...chosen].map((id) => request(`/v1/jobs/${id}/report`)));
  $("charts").replaceChildren(...reports.flatMap(chartsOf));
}

// ── Models ──

function modelRow(model) {
  const ops = Object.entries(model.ops ?? {}).map(([name, n]) => `${n} ${name}`).join(", ");
  return element("tr", {},
    element("th", { scope: "row", title: model.id }, model.name),
    element("td", { className: "number" }, String(model.version)),
    element("td", { className: "number" }, bytes(model.bytes)),
    element("td", { className: "number" }, count(model.parameters)),
    element("td", { className: "wrap" }, ops),
    element("td", {}, time(model.created)));
}

async function loadModels() {
  const all = [];
  for (let cursor = ""; cursor !== null;) {
    const page = await request(`/v1/models${cursor && `?cursor=${encodeURIComponent(cursor)}`}`);
    all.push(...page.items);
    cursor = page.next_cursor ?? null;
  }
  $("models").replaceChildren(...all.map(modelRow));
  $("models-empty").hidden = all.length > 0;
}

// ── Start ──

async function loadAll() {
  const about = await request("/v1");
  $("about").textContent = `version ${about.version}`;
  await Promise.all([loadJobs(), loadModels()]);
}

function onState(state) {
  const line = $("connection");
  if (state === "live" && line.className === "lost") {
    loadAll().catch(fail); // what happened while we were away
  }
  line.textContent = state === "live" ? "live" : "connection lost, trying again";
  line.className = state;
}

$("jobs-more").onclick = () => loadJobs(olderCursor).catch(fail);
$("token-form").onsubmit = (event) => {
  event.preventDefault();
  setToken($("token").value);
  $("token-form").hidden = true;
  start().catch(fail);
};

let following = false;

async function start() {
  await loadAll();
  if (!following) {
    following = true;
    follow(onEvent, onState);
  }
}

start().catch(fail);
