// A clip over time: waveform, spectrum, four scores with their spread, silence and warnings; click to play from there.

const data = JSON.parse(byId("data").textContent);
const [low, high] = data.scale;
const levels = Uint8Array.from(atob(data.mel), letter => letter.charCodeAt(0));
const columns = data.low.length;
const shown = new Set(data.axes.map(axis => axis.key));
const codeOf = Object.fromEntries(data.axes.map((axis, code) => [axis.key, code]));
let audio = null;
let still = null; // the chart without the cursor
let pointed = null; // s, under the mouse
let size = {};

/** The color of a level from 0 to 255: from dark over violet and orange to light. */
function heat(level) {
  const stops = [[0, 0, 4], [60, 15, 110], [147, 38, 103], [221, 81, 58], [252, 165, 10], [252, 255, 164]];
  const place = (level / 255) * (stops.length - 1), below = Math.min(stops.length - 2, Math.floor(place));
  return stops[below].map((part, i) => part + (place - below) * (stops[below + 1][i] - part));
}

function spectrum() {
  const image = new ImageData(columns, data.bands);
  for (let column = 0; column < columns; column++) for (let band = 0; band < data.bands; band++) {
    const at = 4 * ((data.bands - 1 - band) * columns + column), [r, g, b] = heat(levels[column * data.bands + band]);
    image.data.set([r, g, b, 255], at);
  }
  const canvas = el("canvas", { width: columns, height: data.bands });
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

const picture = spectrum();

function layout() {
  const width = Math.max(280, byId("chart").clientWidth), narrow = width < 520, left = narrow ? 30 : 92, right = width - 8;
  const wave = { top: 4, bottom: 64 }, mel = { top: 70, bottom: 150 }, curves = { top: 162, bottom: 382 };
  const row = narrow ? 30 : 18, warnings = { top: 392, row, bottom: 392 + row * data.warnings.length };
  const x = scale(data.start, data.end, left, right), y = scale(low, high, curves.bottom, curves.top);
  return { width, height: warnings.bottom + 24, narrow, left, right, wave, mel, curves, warnings, x, y };
}

function drawAll() {
  size = layout();
  const { width, height, narrow, left, right, wave, mel, curves, warnings, x, y } = size;
  const canvas = byId("canvas"), ctx = context(canvas, width, height);
  const quiet = cssColor("--quiet"), line = cssColor("--line");
  const side = (text, top) => { if (!narrow) { ctx.textAlign = "left"; ctx.fillText(text, 0, top); } };
  ctx.fillStyle = quiet;
  side("waveform", (wave.top + wave.bottom) / 2 + 4);
  side("mel spectrum", (mel.top + mel.bottom) / 2);
  side("to 16 kHz", (mel.top + mel.bottom) / 2 + 14);
  ctx.fillStyle = cssColor("--c5");
  const most = Math.max(0.01, ...data.high, ...data.low.map(value => -value)), w = scale(-most, most, wave.bottom, wave.top);
  const step = (right - left) / columns;
  for (let i = 0; i < columns; i++) ctx.fillRect(left + i * step, w(data.high[i]), Math.max(step, 0.6), Math.max(0.8, w(data.low[i]) - w(data.high[i])));
  ctx.drawImage(picture, left, mel.top, right - left, mel.bottom - mel.top);
  ctx.fillStyle = cssColor("--sunk");
  for (const [start, end] of data.silence) ctx.fillRect(x(start), curves.top, x(end) - x(start), curves.bottom - curves.top);
  ctx.strokeStyle = line;
  ctx.fillStyle = quiet;
  ctx.textAlign = "right";
  for (const tick of ticks(low, high)) {
    ctx.beginPath(); ctx.moveTo(left, y(tick)); ctx.lineTo(right, y(tick)); ctx.stroke();
    ctx.fillText(tick, left - 6, y(tick) + 4);
  }
  ctx.textAlign = "center";
  ctx.fillStyle = quiet;
  for (const [start, end] of data.silence) if (x(end) - x(start) > 42) ctx.fillText("silence", (x(start) + x(end)) / 2, curves.bottom - 8);
  for (const axis of data.axes) if (shown.has(axis.key)) drawCurve(ctx, axis.key);
  drawWarnings(ctx);
  ctx.fillStyle = quiet;
  ctx.strokeStyle = line;
  ctx.textAlign = "center";
  for (const tick of timeTicks(narrow ? 4 : 9)) {
    ctx.beginPath(); ctx.moveTo(x(tick), warnings.bottom); ctx.lineTo(x(tick), warnings.bottom + 4); ctx.stroke();
    ctx.fillText(clock(tick), Math.min(right - 12, x(tick)), warnings.bottom + 17);
  }
  still = el("canvas", { width: canvas.width, height: canvas.height });
  still.getContext("2d").drawImage(canvas, 0, 0);
  drawCursor();
}

/** Round times: 1, 2, 5, 10, 15 or 30 of a unit. */
function timeTicks(most) {
  const span = data.end - data.start, steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];
  const step = steps.find(size => span / size <= most) ?? 14400, found = [];
  for (let at = Math.ceil(data.start / step) * step; at <= data.end; at += step) found.push(at);
  return found;
}

function drawCurve(ctx, axis) {
  const { x, y } = size, hue = cssColor(`--c${codeOf[axis]}`);
  const runs = [[]];
  for (const point of data.curves[axis]) point[1] === null ? runs.push([]) : runs[runs.length - 1].push(point);
  for (const run of runs.filter(points => points.length)) {
    ctx.globalAlpha = 0.16;
    ctx.fillStyle = hue;
    ctx.beginPath();
    for (const [time, value, spread] of run) ctx.lineTo(x(time), y(Math.min(high, value + spread)));
    for (const [time, value, spread] of [...run].reverse()) ctx.lineTo(x(time), y(Math.max(low, value - spread)));
    ctx.fill();
    ctx.globalAlpha = 1;
    ctx.strokeStyle = hue;
    ctx.lineWidth = 2;
    ctx.beginPath();
    for (const [time, value] of run) ctx.lineTo(x(time), y(value));
    ctx.stroke();
    if (run.length === 1) { ctx.beginPath(); ctx.arc(x(run[0][0]), y(run[0][1]), 3.5, 0, 7); ctx.fill(); }
    ctx.lineWidth = 1;
  }
}

function drawWarnings(ctx) {
  const { x, left, narrow, warnings } = size;
  data.warnings.forEach((item, row) => {
    const text = warnings.top + warnings.row * row + 12, bar = narrow ? text + 4 : text - 9;
    ctx.fillStyle = cssColor("--bad");
    for (const [start, end] of item.segments) ctx.fillRect(x(start), bar, Math.max(2, x(end) - x(start)), 9);
    ctx.fillStyle = cssColor("--quiet");
    ctx.textAlign = "left";
    ctx.fillText(item.name, narrow ? left : 0, text);
  });
}

function drawCursor() {
  const ctx = byId("canvas").getContext("2d");
  ctx.clearRect(0, 0, size.width, size.height);
  ctx.drawImage(still, 0, 0, size.width, size.height);
  const at = pointed ?? (audio ? audio.currentTime : null);
  if (at === null || at < data.start || at > data.end) return;
  ctx.strokeStyle = cssColor("--text");
  ctx.beginPath(); ctx.moveTo(size.x(at), 2); ctx.lineTo(size.x(at), size.warnings.bottom); ctx.stroke();
  readOut(at);
}

/** The window whose middle is nearest to a time. */
function windowAt(time) {
  const distance = item => (time < item.start || time > item.end ? 1e6 : 0) + Math.abs((item.start + item.end) / 2 - time);
  return data.windows.reduce((best, item) => (distance(item) < distance(best) ? item : best));
}

function readOut(time) {
  const item = windowAt(time);
  byId("readout").replaceChildren(
    el("span", {}, `${clock(time)} in the window ${clock(item.start)}–${clock(item.end)}`),
    ...data.axes.map(axis => el("span", { style: `color:${color(codeOf[axis.key])}` }, axis.key, el("b", {}, fixed(item[axis.key])), item[`${axis.key}_std`] ? ` ±${fixed(item[`${axis.key}_std`])}` : "")),
    el("span", { class: "quiet" }, [item.domain, ...item.warnings].filter(text => text).join(", ")));
}

function play(time) {
  if (!audio) return;
  audio.currentTime = time;
  audio.play();
}

function start() {
  const canvas = byId("canvas");
  const time = event => {
    const box = canvas.getBoundingClientRect();
    return Math.min(data.end, Math.max(data.start, data.start + ((event.clientX - box.left - size.left) / (size.right - size.left)) * (data.end - data.start)));
  };
  canvas.addEventListener("mousemove", event => { pointed = time(event); drawCursor(); });
  canvas.addEventListener("mouseleave", () => { pointed = null; drawCursor(); });
  canvas.addEventListener("click", event => play(time(event)));
  if (data.source) {
    audio = el("audio", { controls: true, preload: "metadata", src: data.source, "aria-label": data.name });
    audio.addEventListener("timeupdate", drawCursor);
    audio.addEventListener("error", () => { audio.remove(); audio = null; byId("hint").textContent = "This browser cannot play the file, or it has moved."; });
    byId("player").append(audio);
    byId("hint").textContent = "Click the chart to play from there.";
  } else byId("hint").textContent = "The audio file was not found, so this page has no player.";
  byId("legend").replaceChildren(...data.axes.map(axis => el("li", {}, el("label", {}, el("input", { type: "checkbox", checked: true, onchange: event => {
    event.target.checked ? shown.add(axis.key) : shown.delete(axis.key);
    drawAll();
  } }), " ", el("hr", { style: `color:${color(codeOf[axis.key])}` }), `${axis.key} ${axis.name}`))));
  const about = [`${clock(data.start)}–${clock(data.end)}`, `${data.windows.length} ${data.windows.length === 1 ? "window" : "windows"}`, data.overlaps ? "overlapping: a score is drawn at the middle of its window" : "",
    `scores from ${low} to ${high}`, data.model ? `scored by ${data.model.model} ${data.model.version}` : ""];
  byId("facts").textContent = about.filter(text => text).join(" · ");
  drawWindows();
  drawEvidence();
  drawn(drawAll);
  addEventListener("resize", drawAll);
}

function drawWindows() {
  const heads = [{ text: "time", class: "words", "data-first": "ascending" }, ...data.axes.map(axis => axis.key), words("domain"), words("warnings")];
  const table = tableOf(heads, data.windows.map(item => [
    { text: el("button", { type: "button", onclick: () => play(item.start) }, `${clock(item.start)}–${clock(item.end)}`), class: "words", "data-sort": item.start },
    ...data.axes.map(axis => number(`${fixed(item[axis.key])}${item[`${axis.key}_std`] ? ` ±${fixed(item[`${axis.key}_std`])}` : ""}`, item[axis.key] ?? "")),
    words(item.domain ?? ""), words(item.warnings.join(", ")),
  ]));
  byId("windows").replaceChildren(table);
  sortable(table);
}

function drawEvidence() {
  const domains = [...new Set(data.windows.map(item => item.domain).filter(name => name))], parts = [];
  if (domains.length) {
    const bases = (domain, axis) => [...new Set(data.windows.filter(item => item.domain === domain).map(item => item[`${axis}_basis`]).filter(name => name))];
    parts.push(scrolling(tableOf([words("domain"), ...data.axes.map(axis => words(axis.key))],
      domains.map(domain => [words(domain), ...data.axes.map(axis => words(bases(domain, axis.key).join(", ") || "–"))]))));
    const used = Object.keys(data.bases).filter(name => domains.some(domain => data.axes.some(axis => bases(domain, axis.key).includes(name))));
    parts.push(...used.map(name => el("p", { class: "quiet" }, el("b", {}, name), `: ${data.bases[name]}`)));
  }
  parts.push(...data.warnings.map(item => el("p", { class: "quiet" }, el("b", {}, item.name), `: ${item.meaning}`)));
  byId("evidence-section").hidden = !parts.length;
  byId("evidence").replaceChildren(...parts);
}

start();
