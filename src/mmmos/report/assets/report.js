// The report: data, view (system, groups), distributions, comparison, scatter, problems, origin.

const data = JSON.parse(byId("data").textContent);
const rows = data.rows;
const axes = data.axes.map(axis => axis.key);
const nameOf = Object.fromEntries(data.axes.map(axis => [axis.key, axis.name]));
const every = rows.id.map((_, row) => row);
const [low, high] = data.scale;
const SHOWN_GROUPS = 8; // the others are one group
const OUTLINED = 10; // clips that a group needs for an outline; those of a smaller group are drawn one by one
const view = { system: -1, group: data.groups.system ? "system" : data.groups.domain ? "domain" : "" };
const redraws = []; // what depends on the view
const refresh = () => redraws.forEach(draw => draw());

const fileName = row => rows.path[row] ?? rows.id[row];
const inView = () => every.filter(row => view.system < 0 || rows.system[row] === view.system);
const hours = of => of.reduce((sum, row) => sum + (rows.seconds[row] ?? 0), 0) / 3600;
const values = (of, axis) => of.map(row => rows[axis][row]).filter(value => value !== null);

/** Groups of the rows in view: name, color number and rows; the largest ones, and the others as one. */
function groups() {
  const shown = inView();
  const by = data.groups[view.group];
  if (!by) return [{ name: "all clips", code: 0, rows: shown }];
  const members = by.names.map(() => []);
  for (const row of shown) members[by.codes[row]].push(row);
  const all = by.names.map((name, code) => ({ name: name || "(none)", code, rows: members[code] })).filter(g => g.rows.length);
  if (all.length <= SHOWN_GROUPS) return all.map((group, code) => ({ ...group, code }));
  const largest = [...all].sort((a, b) => b.rows.length - a.rows.length).slice(0, SHOWN_GROUPS - 1);
  const others = all.filter(group => !largest.includes(group)).flatMap(group => group.rows);
  const count = all.length - largest.length;
  return [...largest, { name: `${count} others`, rows: others }].map((group, code) => ({ ...group, code }));
}

/** A select element for [value, text] pairs. */
function select(label, options, chosen, change) {
  const box = el("select", { onchange: event => change(event.target.value) },
    options.map(([value, text]) => el("option", { value, selected: String(value) === String(chosen) }, text)));
  return el("label", {}, label, " ", box);
}

const axisOptions = () => axes.map(axis => [axis, `${axis} ${nameOf[axis]}`]);

function drawHistograms() {
  const found = groups();
  const largest = Math.max(...found.map(group => group.rows.length));
  const bins = largest < 300 ? 20 : 40, bars = 7 * found.length;
  const outlined = group => group.rows.length >= OUTLINED, room = found.some(outlined) ? 104 : 10;
  const width = 280, left = 6, right = 274, bottom = room + bars, height = bottom + 28;
  byId("histograms").replaceChildren(...axes.map(axis => {
    const x = scale(low, high, left, right);
    const counted = found.map(group => {
      const known = values(group.rows, axis).sort((a, b) => a - b);
      const counts = new Array(bins).fill(0);
      for (const value of known) counts[Math.min(bins - 1, Math.max(0, Math.floor(((value - low) / (high - low)) * bins)))]++;
      return { ...group, known, parts: counts.map(count => count / Math.max(1, known.length)) };
    });
    const most = Math.max(0.01, ...counted.filter(outlined).flatMap(group => group.parts));
    const y = scale(0, most, bottom - bars, 6);
    const marks = counted.flatMap((group, i) => {
      if (!group.known.length) return [];
      const edge = bin => x(low + (bin / bins) * (high - low)).toFixed(1);
      const steps = group.parts.map((part, bin) => `${edge(bin)},${y(part).toFixed(1)} ${edge(bin + 1)},${y(part).toFixed(1)}`);
      const at = bottom - bars + 5 + i * 7, q = part => x(quantile(group.known, part));
      const outline = { points: steps.join(" "), fill: "none", stroke: color(group.code), "stroke-width": 1.6, "stroke-linejoin": "round" };
      return [
        ...(outlined(group) ? [el("polyline", outline)] : group.known.map(value =>
          el("line", { x1: x(value), x2: x(value), y1: at - 3, y2: at + 3, stroke: color(group.code), "stroke-width": 1.2 }))),
        el("line", { x1: q(0.25), x2: q(0.75), y1: at, y2: at, stroke: color(group.code), "stroke-width": 2.5 }),
        el("circle", { cx: q(0.5), cy: at, r: 3, fill: color(group.code) }),
      ];
    });
    const axisMarks = ticks(low, high).flatMap(tick => [
      el("line", { x1: x(tick), x2: x(tick), y1: bottom, y2: bottom + 4, stroke: "var(--line)" }),
      el("text", { x: x(tick), y: bottom + 17, "text-anchor": "middle" }, String(tick)),
    ]);
    const line = el("line", { x1: left, x2: right, y1: bottom, y2: bottom, stroke: "var(--line)" });
    return el("div", {},
      el("h3", { class: "panel-title" }, `${axis} ${nameOf[axis]}`),
      el("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Distribution of ${nameOf[axis]}` }, line, axisMarks, marks));
  }));
  for (const id of ["legend", "scatter-legend"]) {
    byId(id).replaceChildren(...found.map(group => el("li", {}, el("i", { style: `background:${color(group.code)}` }), group.name)));
  }
  drawGroupTable(found);
}

function drawGroupTable(found) {
  const heads = [words(view.group || "group"), "clips", "length", ...axes.map(axis => ({
    text: `${axis} median (5–95 %)`, title: `${nameOf[axis]}: median, and the range of the middle 90 % of clips`,
  }))];
  const summary = (group, axis) => {
    const known = values(group.rows, axis).sort((a, b) => a - b), q = part => quantile(known, part);
    return known.length ? number(`${fixed(q(0.5))} (${fixed(q(0.05), 1)}–${fixed(q(0.95), 1)})`, q(0.5)) : number("–");
  };
  const table = tableOf(heads, found.map(group => [
    words([el("i", { class: "swatch", style: `background:${color(group.code)}` }), group.name]),
    number(thousands(group.rows.length), group.rows.length),
    number(hoursText(hours(group.rows)), hours(group.rows)),
    ...axes.map(axis => summary(group, axis)),
  ]));
  byId("group-table").replaceChildren(table);
  sortable(table);
}

const ALL_AXES_PAIRS = 4; // with more pairs of systems, one axis at a time

function startComparison() {
  const pairs = new Set(data.comparisons.map(item => JSON.stringify([item.first, item.second]))).size;
  if (!pairs) return;
  byId("comparison").hidden = false;
  byId("comparison-sentence").textContent = data.sentence;
  const show = axis => drawComparison(data.comparisons.filter(item => !axis || item.axis === axis));
  const chosen = pairs > ALL_AXES_PAIRS ? axes[0] : "";
  byId("comparison-controls").replaceChildren(select("axis", [["", "all axes"], ...axisOptions()], chosen, show));
  show(chosen);
}

function drawComparison(found) {
  const paired = found.filter(item => item.paired).length;
  const how = paired === found.length ? "of the same clips" : paired ? "of the same clips where both systems have them" : "of independent clips, as the systems have no clips in common";
  byId("comparison-note").textContent =
    `Mean difference in points ${how}, with 95 % bootstrap intervals. Filled dots: p below 0.05 after Holm's correction for ${data.comparisons.length} tests` +
    ` (${paired ? "Wilcoxon's signed-rank test of pairs" : "Mann and Whitney's test"}${paired && paired < found.length ? ", else Mann and Whitney's test" : ""}).` +
    " The probability of superiority is the probability that the first system scores higher; ties count half." +
    " These are scores of a model, not ratings of people.";
  drawForest(found);
  const p = value => number(value === null ? "–" : value < 0.0001 ? "< 0.0001" : value.toFixed(4), value);
  const heads = [words("first"), words("second"), words("axis"), "clips", "difference", "95 % interval", "P(first higher)", "p", "p, Holm"];
  const table = tableOf(heads, found.map(item => [
    words(item.first), words(item.second), words(item.axis),
    number(item.paired ? thousands(item.n) : `${thousands(item.n)} / ${thousands(item.n_second)}`, item.n),
    number(signed(item.difference), item.difference),
    number(`${signed(item.low)} to ${signed(item.high)}`, item.low),
    number(`${(100 * item.superiority).toFixed(1)} %`, item.superiority),
    p(item.p), p(item.p_holm),
  ]));
  byId("comparison-table").replaceChildren(table);
  sortable(table);
}

function drawForest(found) {
  const pairs = [...new Set(found.map(item => JSON.stringify([item.first, item.second])))].map(text => JSON.parse(text));
  const short = name => (name.length > 30 ? `${name.slice(0, 14)}…${name.slice(-14)}` : name);
  const label = ([first, second]) => `${short(first)} − ${short(second)}`;
  const narrow = Math.min(innerWidth, 1240) < 640;
  const width = narrow ? 420 : 860, line = 17;
  const left = narrow ? 20 : Math.min(330, 12 + 6.6 * Math.max(...pairs.map(pair => label(pair).length)));
  const gap = narrow ? 20 : 0; // the names of a pair stand above it, or to its left
  const reach = Math.max(0.05, ...found.flatMap(item => [Math.abs(item.low), Math.abs(item.high)])) * 1.05;
  const x = scale(-reach, reach, left + 40, width - 8);
  const marks = [];
  let y = 14;
  for (const pair of pairs) {
    const items = found.filter(item => item.first === pair[0] && item.second === pair[1]);
    if (gap) marks.push(el("text", { x: 4, y: y + 2, "font-weight": 600 }, label(pair)));
    else marks.push(el("text", { x: 4, y: y + (items.length * line) / 2 - 4 }, el("title", {}, `${pair[0]} − ${pair[1]}`), label(pair)));
    y += gap;
    for (const item of items) {
      const hue = "var(--accent)", sure = item.p_holm !== null && item.p_holm < 0.05;
      marks.push(
        el("text", { x: left + 30, y: y + 4, "text-anchor": "end" }, item.axis),
        el("line", { x1: x(item.low), x2: x(item.high), y1: y, y2: y, stroke: hue, "stroke-width": 2 }),
        el("circle", { cx: x(item.difference), cy: y, r: 4, stroke: hue, "stroke-width": 2, fill: sure ? hue : "var(--panel)" },
          el("title", {}, `${item.axis}: ${signed(item.difference)} (${signed(item.low)} to ${signed(item.high)})`)));
      y += line;
    }
    y += 8;
    if (pair !== pairs[pairs.length - 1]) marks.push(el("line", { x1: 0, x2: width, y1: y - 12, y2: y - 12, stroke: "var(--line)", "stroke-dasharray": "1 3" }));
  }
  const bottom = y - 8;
  const grid = ticks(-reach, reach, narrow ? 4 : 8).flatMap(tick => [
    el("line", { x1: x(tick), x2: x(tick), y1: 4, y2: bottom, stroke: tick === 0 ? "var(--quiet)" : "var(--line)", "stroke-width": tick === 0 ? 1.2 : 0.6 }),
    el("text", { x: x(tick), y: bottom + 15, "text-anchor": "middle" }, tick > 0 ? `+${tick}` : String(tick).replace("-", "−")),
  ]);
  const words = [
    el("text", { x: x(0) - 6, y: bottom + 32, "text-anchor": "end" }, "← second is higher"),
    el("text", { x: x(0) + 6, y: bottom + 32 }, "first is higher →"),
  ];
  byId("forest").replaceChildren(el("svg", { viewBox: `0 0 ${width} ${bottom + 38}`, style: `max-width:${width}px`, role: "img", "aria-label": "Differences of systems with intervals" }, ...grid, ...marks, ...words));
}

const scatter = { x: axes[0], y: axes.includes("CE") ? "CE" : axes[axes.length - 1], points: [], picked: null };

function drawScatter() {
  const canvas = byId("scatter"), size = Math.max(260, canvas.parentElement.clientWidth || 720);
  const width = size, height = Math.round(Math.min(size * 0.72, 620)), left = 44, bottom = height - 34;
  const ctx = context(canvas, width, height);
  const x = scale(low, high, left, width - 8), y = scale(low, high, bottom, 8);
  ctx.fillStyle = cssColor("--quiet");
  ctx.strokeStyle = cssColor("--line");
  ctx.textAlign = "center";
  for (const tick of ticks(low, high)) {
    ctx.beginPath();
    ctx.moveTo(x(tick), 8); ctx.lineTo(x(tick), bottom); ctx.moveTo(left, y(tick)); ctx.lineTo(width - 8, y(tick));
    ctx.stroke();
    ctx.fillText(tick, x(tick), bottom + 15);
    ctx.textAlign = "right"; ctx.fillText(tick, left - 7, y(tick) + 4); ctx.textAlign = "center";
  }
  ctx.fillText(`${scatter.x} ${nameOf[scatter.x]}`, (left + width) / 2, height - 4);
  ctx.save();
  ctx.translate(12, bottom / 2); ctx.rotate(-Math.PI / 2);
  ctx.fillText(`${scatter.y} ${nameOf[scatter.y]}`, 0, 0);
  ctx.restore();
  const found = groups();
  const points = found.flatMap(group => group.rows.filter(row => rows[scatter.x][row] !== null && rows[scatter.y][row] !== null)
    .map(row => ({ row, hue: group.code, x: x(rows[scatter.x][row]), y: y(rows[scatter.y][row]) })));
  const hues = found.map(group => cssColor(`--c${group.code}`));
  points.sort((a, b) => ((a.row * 7919) % 10007) - ((b.row * 7919) % 10007)); // no group hides another
  ctx.globalAlpha = points.length > 3000 ? 0.35 : points.length > 500 ? 0.55 : 0.8;
  for (const point of points) {
    ctx.fillStyle = hues[point.hue];
    ctx.beginPath();
    ctx.arc(point.x, point.y, points.length > 3000 ? 2 : 3.2, 0, 7);
    ctx.fill();
  }
  ctx.globalAlpha = 1;
  scatter.points = points;
  byId("scatter-title").textContent = `${scatter.y} ${nameOf[scatter.y]} over ${scatter.x} ${nameOf[scatter.x]}, one dot per clip`;
}

function nearest(event) {
  const box = byId("scatter").getBoundingClientRect(), at = { x: event.clientX - box.left, y: event.clientY - box.top };
  let best = null, least = 144;
  for (const point of scatter.points) {
    const distance = (point.x - at.x) ** 2 + (point.y - at.y) ** 2;
    if (distance < least) [best, least] = [point, distance];
  }
  return best;
}

function startScatter() {
  const canvas = byId("scatter"), tip = byId("tip");
  byId("scatter-controls").replaceChildren(
    select("horizontal", axisOptions(), scatter.x, axis => { scatter.x = axis; drawScatter(); }),
    select("vertical", axisOptions(), scatter.y, axis => { scatter.y = axis; drawScatter(); }));
  canvas.addEventListener("mousemove", event => {
    const point = nearest(event);
    tip.hidden = !point;
    if (!point) return;
    tip.replaceChildren(el("b", {}, fileName(point.row)), el("br"), axes.map(axis => `${axis} ${fixed(rows[axis][point.row])}`).join("  "));
    tip.style.left = `${Math.min(point.x + 10, canvas.clientWidth - 180)}px`;
    tip.style.top = `${point.y + 10}px`;
  });
  canvas.addEventListener("mouseleave", () => { tip.hidden = true; });
  canvas.addEventListener("click", event => {
    const point = nearest(event);
    if (point) byId("picked").replaceChildren(card(point.row, scatter.x));
  });
}

function drawProblems() {
  const shown = inView();
  const counted = (names, has) => names
    .map((item, code) => ({ ...item, count: shown.filter(row => has(row, code)).length }))
    .filter(item => item.count).sort((a, b) => b.count - a.count);
  const table = (found, kind) => scrolling(tableOf([words(kind), "clips", "of all", words(""), words("meaning")], found.map(item => [
    words(item.name), thousands(item.count), `${((100 * item.count) / shown.length).toFixed(1)} %`,
    words(el("i", { class: "bar", style: `width:${Math.max(2, (100 * item.count) / found[0].count)}px` })), prose(item.meaning),
  ])));
  const warned = counted(data.warnings, (row, code) => rows.warnings[row].includes(code));
  const failed = counted(data.errors, (row, code) => rows.error[row] === code);
  byId("problem-tables").replaceChildren(
    warned.length ? table(warned, "warning") : el("p", {}, "No clip has a warning."),
    failed.length ? table(failed, "error") : el("p", {}, "No clip has an error."),
    ...failures(shown));
}

const FAILURES = 200;

/** The clips with errors and their messages, folded. */
function failures(shown) {
  const broken = shown.filter(row => rows.error[row] !== null);
  if (!broken.length) return [];
  const few = broken.slice(0, FAILURES).map(row => [prose(fileName(row)), words(data.errors[rows.error[row]].name), prose(rows.message[row])]);
  const of = broken.length > FAILURES ? `the first ${FAILURES} of ` : "";
  return [el("details", { class: "screen" },
    el("summary", {}, `Clips without a score because of an error (${of}${thousands(broken.length)})`),
    scrolling(tableOf([words("clip"), words("error"), words("message")], few)))];
}

function drawOrigin() {
  byId("origin-tables").replaceChildren(...modelParts(), ...evidenceParts());
}

function modelParts() {
  if (!data.models.length) return [el("p", {}, "The rows do not name the model that produced them.")];
  const yes = value => words(value ? "yes" : "no");
  const heads = ["system", "model", "scale", "checksum", "version", "device", "precision", "calibrated", "commercial use"].map(words);
  const table = tableOf([...heads, "rows"], data.models.map(item => [
    words(item.system), words(item.model), words(item.scale ?? "–"), words(item.model_sha256.slice(0, 12) || "–"),
    words(item.version || "–"), words(item.device || "–"), words(item.dtype || "–"), yes(item.calibrated), yes(item.commercial_use),
    thousands(item.rows),
  ]));
  const caution = "Not calibrated: the scores were not compared with raters outside the training data. Compare clips of one kind; see the model's card.";
  return [scrolling(table), ...(data.models.every(item => item.calibrated) ? [] : [el("p", { class: "quiet" }, caution)])];
}

function evidenceParts() {
  if (!data.evidence.length) return [];
  const counts = found => Object.entries(found).map(([basis, n]) => `${basis} (${thousands(n)})`).join(", ") || "–";
  const table = tableOf(["system", "domain", ...axes].map(words), data.evidence.map(item =>
    [words(item.system), words(item.domain || "–"), ...axes.map(axis => prose(counts(item[axis])))]));
  const used = Object.keys(data.bases).filter(basis => data.evidence.some(item => axes.some(axis => item[axis][basis])));
  return [
    el("h3", { style: "margin-top:1rem" }, "Evidence behind the scores"),
    el("p", { class: "quiet" }, "Clips by the weakest evidence that a score rests on."),
    scrolling(table),
    ...used.map(basis => el("p", { class: "quiet" }, el("b", {}, basis), `: ${data.bases[basis]}`)),
  ];
}
