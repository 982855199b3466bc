// Lists of clips with players, and the start of the page.

const LISTS = {
  worst: { text: "Worst", note: "Lowest scores first." },
  best: { text: "Best", note: "Highest scores first." },
  uncertain: { text: "Most uncertain", note: "Largest standard deviation of a score first." },
  degraded: { text: "Most degraded", note: "" },
};
const PAGE = 10;
const list = { kind: "worst", axis: axes[0], shown: PAGE };
const hasReference = data.reference.some(row => row !== null);
const hasSpread = axes.some(axis => rows[`${axis}_std`].some(value => value !== null && value > 0));

LISTS.degraded.note = hasReference
  ? `Largest loss against the same clip of ${data.systems[0]} first.`
  : "Clips with a warning about their audio, lowest scores first.";

/** Rows of the chosen list, in order. */
function listed() {
  const known = inView().filter(row => rows[list.axis][row] !== null), value = row => rows[list.axis][row];
  if (list.kind === "best") return known.sort((a, b) => value(b) - value(a));
  if (list.kind === "uncertain") {
    const spread = row => rows[`${list.axis}_std`][row];
    return known.filter(row => spread(row) !== null).sort((a, b) => spread(b) - spread(a));
  }
  if (list.kind === "degraded" && hasReference) {
    const pairs = known.filter(row => data.reference[row] !== null && rows[list.axis][data.reference[row]] !== null);
    return pairs.sort((a, b) => loss(b, list.axis) - loss(a, list.axis));
  }
  const chosen = list.kind === "degraded" ? known.filter(row => rows.warnings[row].length) : known;
  return chosen.sort((a, b) => value(a) - value(b));
}

const loss = (row, axis) => rows[axis][data.reference[row]] - rows[axis][row];

/** A clip: name, scores, warnings and its player. */
function card(row, axis) {
  const start = rows.start[row] ?? 0, end = rows.end[row];
  const facts = axes.map(key => {
    const spread = rows[`${key}_std`][row];
    return el("span", { class: key === axis ? "axis-on" : "", title: nameOf[key] }, `${key} `, el("b", {}, fixed(rows[key][row])), spread ? ` ±${fixed(spread)}` : "");
  });
  if (list.kind === "degraded" && data.reference[row] !== null && rows[axis][row] !== null) facts.push(el("span", {}, `${axis} ${signed(-loss(row, axis))} against ${data.systems[0]}`));
  if (start > 0 || rows.seconds[row] !== null) facts.push(el("span", {}, start > 0 && end !== null ? `${clock(start)}–${clock(end)}` : `${fixed(rows.seconds[row], 1)} s`));
  if (data.groups.domain) facts.push(el("span", {}, data.groups.domain.names[data.groups.domain.codes[row]]));
  if (data.systems.length > 1) facts.push(el("span", {}, data.systems[rows.system[row]]));
  const chips = rows.warnings[row].map(code => el("span", { class: "chip", title: data.warnings[code].meaning }, data.warnings[code].name));
  return el("div", { class: "card" },
    el("div", {}, el("div", { class: "name" }, fileName(row)), el("div", { class: "facts" }, ...facts, ...chips)),
    el("div", { class: "screen" }, player(row, start, end)));
}

function player(row, start, end) {
  const source = rows.source.names[rows.source.codes[row]];
  if (!source) return el("span", { class: "quiet" }, "audio not found");
  const address = start > 0 && !source.startsWith("data:") ? `${source}#t=${start}${end === null ? "" : `,${end}`}` : source;
  const audio = el("audio", { controls: true, preload: "none", src: address, "aria-label": fileName(row) });
  audio.addEventListener("play", () => document.querySelectorAll("audio").forEach(other => other !== audio && other.pause()));
  audio.addEventListener("error", () => audio.replaceWith(el("span", { class: "quiet" }, "This browser cannot play the file, or it has moved.")));
  if (start > 0 && source.startsWith("data:")) audio.addEventListener("loadedmetadata", () => { audio.currentTime = start; }, { once: true });
  return audio;
}

function drawClips() {
  const found = listed();
  for (const button of byId("clip-controls").querySelectorAll("button")) button.setAttribute("aria-pressed", button.value === list.kind);
  byId("clip-note").textContent = `${LISTS[list.kind].text}: ${list.axis} ${nameOf[list.axis]}. ${LISTS[list.kind].note}`;
  byId("clip-list").replaceChildren(...found.slice(0, list.shown).map(row => card(row, list.axis)));
  if (!found.length) byId("clip-list").replaceChildren(el("p", { class: "quiet" }, "There is no such clip."));
  byId("more").hidden = found.length <= list.shown;
}

function startClips() {
  const kinds = Object.keys(LISTS).filter(kind => kind !== "uncertain" || hasSpread);
  const change = part => { Object.assign(list, part, part.shown ? {} : { shown: PAGE }); drawClips(); };
  byId("clip-controls").replaceChildren(
    ...kinds.map(kind => el("button", { type: "button", value: kind, onclick: () => change({ kind }) }, LISTS[kind].text)),
    select("axis", axisOptions(), list.axis, axis => change({ axis })));
  byId("more").addEventListener("click", () => change({ shown: list.shown + 2 * PAGE }));
}

function startView() {
  const parts = [];
  if (data.systems.length > 1) parts.push(select("system", [[-1, "all systems"], ...data.systems.map((name, i) => [i, name])], view.system,
    system => { view.system = +system; refresh(); }));
  const by = Object.keys(data.groups);
  if (by.length) parts.push(select("group by", [["", "nothing"], ...by.map(name => [name, name])], view.group, group => { view.group = group; refresh(); }));
  byId("view").replaceChildren(...parts);
  const scored = every.filter(row => axes.some(axis => rows[axis][row] !== null));
  const failed = rows.error.filter(error => error !== null).length;
  const models = [...new Set(data.models.map(item => item.model))];
  byId("summary").textContent = [
    `${thousands(every.length)} ${every.length === 1 ? "row" : "rows"}`,
    data.systems.length > 1 ? `${data.systems.length} systems` : "", `${thousands(scored.length)} with scores`, hoursText(hours(every)),
    failed ? `${thousands(failed)} with errors` : "", models.length ? `scored by ${models.join(", ")}` : "",
    data.scales.length ? `scale ${data.scales.join(" and ")}` : "",
  ].filter(text => text).join(" · ");
  if (data.scales.length > 1) byId("notes").append(el("p", { class: "note" }, `The rows are on different rating scales (${data.scales.join(", ")}): do not compare their scores.`));
  const versions = new Set(data.models.map(item => item.model_sha256));
  if (versions.size > 1) byId("notes").append(el("p", { class: "note" }, "The rows are of different models: differences between systems may be differences between models."));
}
