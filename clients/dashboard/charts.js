// Line charts of what a job told: how training went, what pruning a group or quantizing a layer costs,
// and what accuracy takes how many layers in float.

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT] = [420, 190, 52, 24, 8, 8];
const COLOURS = 6; // classes line-0 to line-5 of the style sheet

function shape(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) {
    made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function range(values) {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  return most > least ? [least, most] : [least - 0.5, most + 0.5];
}

function short(value) {
  const size = Math.abs(value);
  if (size >= 1e4 || (size > 0 && size < 1e-3)) {
    return value.toExponential(1);
  }
  return Number.isInteger(value) ? String(value) : value.toPrecision(3);
}

function axes(x, y, place) {
  const [right, low] = [WIDTH - RIGHT, HEIGHT - BOTTOM];
  return [
    shape("path", { class: "axis", d: `M${LEFT} ${TOP}V${low}H${right}` }),
    ...y.map((value) => shape("text", { x: LEFT - 6, y: place(x[0], value)[1] + 4, "text-anchor": "end" },
      short(value))),
    shape("text", { x: LEFT, y: HEIGHT - 6 }, short(x[0])),
    shape("text", { x: right, y: HEIGHT - 6, "text-anchor": "end" }, short(x[1])),
  ];
}

// series: [name, [[x, y], …]]; points without a value are left out. Returns null without any point.
function lineChart(title, series, unit, when = "at the end") {
  const lines = series
    .map(([name, points]) => [name, points.filter((point) => Number.isFinite(point[1]))])
    .filter(([, points]) => points.length > 0);
  if (lines.length === 0) {
    return null;
  }
  const all = lines.flatMap(([, points]) => points);
  const [x, y] = [range(all.map((point) => point[0])), range(all.map((point) => point[1]))];
  const place = (a, b) => [
    LEFT + ((a - x[0]) / (x[1] - x[0])) * (WIDTH - LEFT - RIGHT),
    TOP + ((y[1] - b) / (y[1] - y[0])) * (HEIGHT - TOP - BOTTOM),
  ];
  const paths = lines.map(([, points], i) => shape("polyline", {
    class: `line line-${i % COLOURS}`,
    points: points.map(([a, b]) => place(a, b).map((n) => n.toFixed(1)).join(",")).join(" "),
  }));
  const drawn = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title },
    ...axes(x, y, place), ...paths);

  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  caption.append(`${title} (${unit})`);
  const legend = document.createElement("ul");
  legend.append(...lines.map(([name, points], i) => {
    const item = document.createElement("li");
    item.className = `line-${i % COLOURS}`;
    item.append(`${name}: ${short(points.at(-1)[1])} ${when}`);
    return item;
  }));
  figure.append(caption, drawn, legend);
  return figure;
}

// Curves of the same quantity share a chart: loss with validation_loss.
function curveCharts(title, curves, unit, when) {
  const kinds = new Map();
  for (const [name, points] of Object.entries(curves)) {
    const kind = name.replace(/^validation_/, "");
    kinds.set(kind, [...(kinds.get(kind) ?? []), [name, points]]);
  }
  return [...kinds].map(([kind, series]) => lineChart(`${title}: ${kind.replaceAll("_", " ")}`, series, unit, when))
    .filter((chart) => chart !== null);
}

// Of a pass that runs; curves as in a report, but by samples.
export const runningCharts = (title, curves) => curveCharts(title, curves, "by sample", "now");

// Notes whose figures are accuracy_10, accuracy_20, … are of one group each.
function sensitivityChart(step) {
  let kind = "accuracy";
  const series = [];
  for (const note of step.notes ?? []) {
    const points = [];
    for (const [name, value] of Object.entries(note.figures ?? {})) {
      const found = /^(accuracy|agreement)_(\d+)$/.exec(name);
      if (found) {
        kind = found[1];
        points.push([Number(found[2]), value]);
      }
    }
    if (points.length > 0) {
      series.push([note.subject, points]);
    }
  }
  return lineChart(`${step.pass}: ${kind} when a group alone is pruned`, series, "by % of its channels");
}

function pointsOf(notes, x, y) {
  return notes
    .map((note) => note.figures ?? {})
    .filter((figures) => x in figures && y in figures)
    .map((figures) => [figures[x], figures[y]])
    .sort((a, b) => a[0] - b[0]);
}

// Notes with alone_… are of one layer each, those with candidate of one choice of layers.
function quantizationCharts(step) {
  const notes = step.notes ?? [];
  const choices = notes.filter((note) => "candidate" in (note.figures ?? {}));
  const charts = [["SQNR", "alone_sqnr_db", "dB, by layer"], ["accuracy", "alone_accuracy", "by layer"],
    ["agreement", "alone_agreement", "by layer"]]
    .map(([name, figure, unit]) => lineChart(`${step.pass}: ${name} when a layer alone is quantized`,
      [[name, pointsOf(notes, "layer", figure)]], unit));
  for (const kind of ["accuracy", "agreement"]) {
    charts.push(lineChart(`${step.pass}: ${kind} with layers in float`,
      [[kind, pointsOf(choices, "float_layers", kind)]], "by their number"));
  }
  return charts;
}

export function chartsOf(report) {
  return report.steps
    .flatMap((step) => [...curveCharts(step.pass, step.curves ?? {}, "by step"), sensitivityChart(step),
      ...quantizationCharts(step)])
    .filter((chart) => chart !== null);
}
