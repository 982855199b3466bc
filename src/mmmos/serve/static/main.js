// The page: files come in, are scored a few at a time, and are shown as a table and one clip in detail.

import { about, overlapping, score } from "./api.js";
import { hopOf } from "./curve.js";
import { breakable, byId, clock, element } from "./dom.js";
import { save, toCsv, toJson } from "./download.js";
import { fromDrop, fromFolder, named, toggleRecording } from "./files.js";
import { gauge } from "./gauges.js";
import { Player } from "./player.js";
import { drawHeads, drawRows } from "./table.js";
import { Wave } from "./wave.js";
import { explained, facts, failureOf, note, progressOf } from "./words.js";

const AT_A_TIME = 3;
const clips = []; // {name, file, stop, progress, row, curve, failure, url, cell}
const waiting = [];
let service = null;
let selected = null;
let compared = null;
let waves = [];
let running = 0;
let drawing = false; // a curve is on its way

const player = new Player(showPosition);
const range = () => service.model.scale;
const axes = () => service.phrases.axes;

function say(text) {
  byId("message").textContent = text;
  byId("message").hidden = !text;
}

function add(found) {
  say(found.length ? "" : "There is no audio file in it.");
  const made = found.map(({ name, file }) => ({ name, file, stop: new AbortController() }));
  clips.push(...made);
  waiting.push(...made);
  if (!selected && made.length) select(made[0]);
  draw();
  for (let i = running; i < AT_A_TIME; i += 1) next();
}

async function next() {
  const clip = waiting.shift();
  if (!clip) return;
  running += 1;
  try {
    clip.row = await score(clip.name, clip.file, (found) => progressed(clip, found), clip.stop.signal);
  } catch (error) {
    clip.failure = error.message;
  }
  running -= 1;
  if (clips.includes(clip)) {
    draw();
    if (clip === selected || clip === compared) drawClip();
  }
  next();
  refine();
}

function progressed(clip, found) {
  clip.progress = progressOf(clip.progress, found, performance.now());
  if (clip.cell) clip.cell.textContent = note(clip, false, service.phrases);
  waves.find((wave) => wave.clip === clip)?.wait();
}

// Replace the steps of a short clip by a curve, when the scores of all but long clips are there. Without it, the steps stay.
async function refine() {
  const clip = [selected, compared].find((one) => one && !one.curve && !one.coarse && hopOf(one.row));
  if (!clip || drawing || clips.some((one) => !one.row && !one.failure && !one.progress?.long)) return;
  drawing = true;
  try {
    clip.curve = await overlapping(clip.name, clip.file, hopOf(clip.row), clip.stop.signal);
  } catch {
    clip.coarse = true;
  }
  drawing = false;
  waves.find((wave) => wave.clip === clip)?.drawCurves();
  if (selected) drawScale();
  refine();
}

function draw() {
  const left = clips.filter((clip) => !clip.row && !clip.failure).length;
  const failed = clips.filter((clip) => failureOf(clip, service.phrases)).length;
  const failures = failed ? `; ${failed} could not be scored` : "";
  byId("status").textContent = clips.length ? `${clips.length - left - failed} of ${clips.length} scored${failures}` : "";
  byId("status").dataset.left = clips.length ? left : "";
  byId("meanings").hidden = clips.length > 0;
  byId("list").hidden = clips.length < 2;
  byId("clip").hidden = !selected;
  for (const name of ["csv", "json"]) byId(name).disabled = !clips.some((clip) => clip.row);
  const focused = document.activeElement?.closest("#rows button")?.title;
  drawRows(byId("heads"), byId("rows"), clips, selected, {
    axes: axes(), range: range(), note: (clip) => note(clip, waiting.includes(clip), service.phrases), select,
  });
  if (focused) [...byId("rows").querySelectorAll("td button")].find((button) => button.title === focused)?.focus();
  drawChoices();
}

function drawChoices() {
  const others = clips.filter((clip) => clip !== selected && clip.row?.outline);
  byId("compare-label").hidden = !others.length;
  const options = others.map((clip) => element("option", { value: clips.indexOf(clip), textContent: clip.name, selected: clip === compared }));
  byId("compare").replaceChildren(element("option", { value: "", textContent: "nothing" }), ...options);
}

function select(clip) {
  if (clip === compared) compared = null;
  selected = clip;
  draw();
  drawClip();
}

function drawClip() {
  const { row } = selected;
  const failure = failureOf(selected, service.phrases);
  byId("clip-title").replaceChildren(...breakable(selected.name));
  byId("remove").textContent = row || selected.failure ? "Remove" : "Cancel";
  byId("facts").textContent = facts(selected);
  byId("failure").textContent = failure ? `${failure} The clip has no scores.` : "";
  byId("failure").hidden = !failure;
  byId("player").hidden = Boolean(failure);
  byId("ab").hidden = !compared;
  const both = failure ? [] : [selected, compared].filter(Boolean);
  const names = Object.keys(axes());
  waves = both.map((clip, i) => new Wave(clip, compared ? `${"AB"[i]}: ${clip.name}` : "", names, range(), (seconds, play) => seek(i, seconds, play)));
  byId("waves").replaceChildren(...waves.map((wave) => wave.node));
  if (both.length !== player.clips.length || both.some((clip, i) => clip !== player.clips[i])) player.open(both);
  byId("gauges").hidden = Boolean(failure);
  byId("gauges").replaceChildren(...Object.entries(axes()).map(([axis, words]) => gauge(axis, words, row, compared?.row, range(), service.phrases.bases)));
  byId("scale").hidden = Boolean(failure);
  drawScale();
  byId("notes").replaceChildren(...(row?.warnings ?? []).map((code) => element("li", { textContent: service.phrases.warnings[code] ?? code })));
  showPosition();
  refine();
}

const drawScale = () => { byId("scale").textContent = explained(selected, compared, Object.keys(axes()), service.model); };

function seek(index, seconds, play) {
  player.use(index);
  player.seek(seconds);
  if (play) player.play();
}

function showPosition() {
  if (!selected) return;
  byId("play").textContent = player.playing ? "Pause" : "Play";
  byId("play").setAttribute("aria-pressed", player.playing);
  const length = selected.row?.duration ?? player.duration;
  byId("time").textContent = `${clock(player.position)} / ${clock(length)}`;
  waves.forEach((wave, i) => {
    wave.show(Math.min(player.position, wave.duration || player.position));
    wave.node.classList.toggle("off", i !== player.active);
  });
  byId("use-a").setAttribute("aria-pressed", player.active === 0);
  byId("use-b").setAttribute("aria-pressed", player.active === 1);
  byId("playing").textContent = remark();
}

function remark() {
  if (player.failed) return "Your browser cannot play this format. The scores are not affected.";
  if (!compared) return "";
  return player.sounds.some((sound) => sound.volume < 1)
    ? "The louder clip is turned down, so that both are equally loud. Switch with A and B."
    : "Switch with A and B.";
}

async function addSample(name) {
  const response = await fetch(`static/samples/${name}`);
  add([{ name, file: new File([await response.blob()], name) }]);
}

function drawMeanings() {
  byId("axes").replaceChildren(...Object.entries(axes()).map(([axis, [name, meaning]]) =>
    element("div", { className: axis }, element("dt", { textContent: name }), element("dd", { textContent: meaning }))));
}

function drawSamples(names) {
  byId("samples").replaceChildren(
    ...Object.entries(names).map(([name, words]) => {
      const button = element("button", { type: "button", textContent: words });
      button.addEventListener("click", () => addSample(name));
      return button;
    }),
  );
}

function listen() {
  const drop = byId("drop");
  for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", name === "dragenter" || name === "dragover");
    });
  }
  document.addEventListener("drop", async (event) => add(await fromDrop(event.dataTransfer)));
  byId("choose").addEventListener("click", () => byId("files").click());
  byId("choose-folder").addEventListener("click", () => byId("folder").click());
  byId("files").addEventListener("change", (event) => chosen(event, [...event.target.files].map(named)));
  byId("folder").addEventListener("change", (event) => chosen(event, fromFolder(event.target.files)));
  byId("record").addEventListener("click", record);
  byId("play").addEventListener("click", () => player.toggle());
  byId("use-a").addEventListener("click", () => player.use(0));
  byId("use-b").addEventListener("click", () => player.use(1));
  byId("compare").addEventListener("change", (event) => {
    compared = clips[event.target.value] ?? null;
    drawClip();
  });
  const rows = () => clips.filter((clip) => clip.row).map((clip) => clip.row);
  byId("csv").addEventListener("click", () => save("scores.csv", "text/csv", toCsv(rows())));
  byId("json").addEventListener("click", () => save("scores.json", "application/json", toJson(rows())));
  byId("clear").addEventListener("click", () => remove([...clips]));
  byId("remove").addEventListener("click", () => remove([selected]));
  document.addEventListener("keydown", keyed);
}

function chosen(event, found) {
  event.target.value = ""; // so that the same file can be chosen again
  add(found);
}

async function record() {
  const button = byId("record");
  try {
    const records = await toggleRecording((clip) => {
      add([clip]);
      select(clips.at(-1));
    });
    button.setAttribute("aria-pressed", records);
    button.textContent = records ? "Stop recording" : "Record";
  } catch (error) {
    say(error.message);
  }
}

// Take clips off the page; what is not scored yet is not scored.
function remove(gone) {
  player.close();
  const place = clips.indexOf(selected);
  for (const list of [clips, waiting]) list.splice(0, list.length, ...list.filter((clip) => !gone.includes(clip)));
  for (const clip of gone) {
    clip.stop.abort();
    if (clip.url) URL.revokeObjectURL(clip.url);
  }
  if (gone.includes(selected)) selected = clips[Math.min(place, clips.length - 1)] ?? null;
  if (gone.includes(compared) || compared === selected) compared = null;
  draw();
  if (selected) drawClip();
  byId(selected ? "clip-title" : "choose").focus();
}

// Space plays, A and B switch, unless a control or a field has the key.
function keyed(event) {
  if (!selected || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, dialog") || (event.key === " " && event.target.closest("button"))) return;
  if (event.key === " ") player.toggle();
  else if (event.key === "a") player.use(0);
  else if (event.key === "b") player.use(1);
  else return;
  event.preventDefault();
}

async function main() {
  try {
    service = await about();
  } catch (error) {
    say(error.message);
    return;
  }
  drawHeads(byId("heads"), axes(), draw);
  drawSamples(service.samples);
  drawMeanings();
  const { name, version, commercial_use: commercial } = service.model;
  byId("model").textContent = `Model ${name}, MMMOS ${version}${commercial ? "" : ", for non-commercial use"}.`;
  listen();
  document.body.dataset.ready = "true";
}

main();
