// Thresholds, the hours they keep, and the manifest of the clips that are kept.

const limits = Object.fromEntries(axes.map(axis => [axis, low]));
const excluded = new Set();

const scored = row => axes.some(axis => rows[axis][row] !== null);
const passes = row =>
  axes.every(axis => limits[axis] <= low || (rows[axis][row] !== null && rows[axis][row] >= limits[axis])) &&
  !rows.warnings[row].some(code => excluded.has(code));
const kept = () => inView().filter(row => scored(row) && passes(row));

/** Points of the hours kept by a threshold on one axis. */
function curve(axis) {
  const known = inView().filter(row => rows[axis][row] !== null), steps = 60, lengths = new Array(steps + 1).fill(0);
  for (const row of known) lengths[Math.max(0, Math.min(steps, Math.floor(((rows[axis][row] - low) / (high - low)) * steps)))] += (rows.seconds[row] ?? 0) / 3600;
  for (let i = steps - 1; i >= 0; i--) lengths[i] += lengths[i + 1];
  return lengths;
}

function drawKept() {
  const chosen = kept(), all = inView(), unknown = all.filter(row => rows.seconds[row] === null).length;
  const [part, whole] = [hours(chosen), hours(all)], percent = whole ? (100 * part) / whole : 0;
  byId("kept").replaceChildren(
    el("span", { class: "big" }, `${hoursText(part)} of ${hoursText(whole)}`), ` (${percent.toFixed(1)} %) · ${thousands(chosen.length)} of ${thousands(all.length)} clips`,
    unknown ? el("span", { class: "quiet" }, ` · ${thousands(unknown)} of unknown length`) : "",
    el("div", { class: "meter" }, el("i", { style: `width:${percent}%` })));
  for (const axis of axes) {
    const output = byId(`limit-${axis}`), mark = byId(`mark-${axis}`);
    output.textContent = limits[axis] <= low ? "all" : `≥ ${limits[axis].toFixed(1)}`;
    const x = scale(low, high, 8, 272)(limits[axis]);
    mark.setAttribute("x1", x);
    mark.setAttribute("x2", x);
  }
}

function drawThresholds() {
  byId("thresholds").replaceChildren(...axes.map(axis => {
    const lengths = curve(axis), y = scale(0, lengths[0] || 1, 84, 6), x = scale(0, lengths.length - 1, 8, 272);
    const points = lengths.map((value, i) => `${x(i).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
    const slider = el("input", { type: "range", min: low, max: high, step: 0.1, value: limits[axis], "aria-label": `Least ${nameOf[axis]}`,
      oninput: event => { limits[axis] = +event.target.value; drawKept(); } });
    return el("div", { class: "threshold" },
      el("h3", { class: "panel-title" }, `${axis} ${nameOf[axis]}`, el("output", { id: `limit-${axis}` })),
      el("svg", { viewBox: "0 0 280 102", role: "img", "aria-label": `Hours kept by a threshold on ${nameOf[axis]}` },
        el("polygon", { points: `8,84 ${points} 272,84`, fill: "var(--accent-back)" }),
        el("polyline", { points, fill: "none", stroke: "var(--accent)", "stroke-width": 1.5 }),
        el("line", { id: `mark-${axis}`, y1: 4, y2: 84, stroke: "var(--bad)", "stroke-width": 1.5 }),
        ticks(low, high).map(tick => el("text", { x: scale(low, high, 8, 272)(tick), y: 98, "text-anchor": "middle" }, String(tick)))),
      slider);
  }));
  drawKept();
}

/** The kept clips as JSON lines or CSV, which `mmmos score` and other programs read as a list. */
function manifest(form) {
  const chosen = kept();
  const record = row => ({ id: rows.id[row], path: rows.path[row] ?? rows.id[row], start_time: rows.start[row] ?? 0, end_time: rows.end[row], ...Object.fromEntries(axes.map(axis => [axis, rows[axis][row]])),
    ...(data.systems.length > 1 ? { system: data.systems[rows.system[row]] } : {}) });
  if (form === "jsonl") return chosen.map(row => JSON.stringify(record(row)) + "\n").join("");
  const quote = value => (value === null ? "" : /[",\r\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
  const names = ["id", "path", "start_time", "end_time", ...axes, ...(data.systems.length > 1 ? ["system"] : [])];
  return [names, ...chosen.map(row => names.map(name => record(row)[name] ?? null))].map(line => line.map(quote).join(",") + "\n").join("");
}

function startSelection() {
  const boxes = data.warnings.map((item, code) => el("label", { title: item.meaning }, el("input", { type: "checkbox",
    onchange: event => { event.target.checked ? excluded.add(code) : excluded.delete(code); drawKept(); } }), ` ${item.name}`));
  byId("exclusions").replaceChildren(...(boxes.length ? [el("span", {}, "Leave out clips with"), ...boxes] : []));
  const save = form => {
    const address = URL.createObjectURL(new Blob([manifest(form)], { type: "text/plain" }));
    el("a", { href: address, download: `kept.${form}` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  };
  byId("downloads").replaceChildren(
    el("button", { type: "button", class: "main", id: "save-jsonl", onclick: () => save("jsonl") }, "Download the kept clips (JSONL)"),
    el("button", { type: "button", id: "save-csv", onclick: () => save("csv") }, "CSV"));
}

startView();
startScatter();
startClips();
startSelection();
redraws.push(drawHistograms, drawClips, drawThresholds, drawProblems, drawScatter);
refresh();
drawOrigin();
startComparison();
drawn(drawScatter);
addEventListener("resize", drawScatter);
