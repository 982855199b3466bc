// The table of clips: one row each, sorted by any column. Clips without the value come last.

import { breakable, element } from "./dom.js";

const state = { column: null, down: true };

const bySort = (clips) => {
  const { column, down } = state;
  if (!column) return clips;
  const value = (clip) => (column === "name" ? clip.name : clip.row?.[column] ?? null);
  return [...clips].sort((a, b) => {
    const [first, second] = [value(a), value(b)];
    if (first === null || second === null) return (first === null) - (second === null);
    const order = column === "name" ? first.localeCompare(second) : first - second;
    return down ? -order : order;
  });
};

export function drawHeads(heads, axes, redraw) {
  const columns = [["name", "Clip", "Clip"], ...Object.entries(axes).map(([axis, [name]]) => [axis, axis, name])];
  const made = columns.map(([column, text, title]) => {
    const button = element("button", { type: "button", textContent: text, title: `Sort by ${title}` });
    const head = element("th", { scope: "col" }, button);
    head.dataset.column = column;
    button.addEventListener("click", () => {
      Object.assign(state, { column, down: state.column === column ? !state.down : column !== "name" });
      redraw();
    });
    return head;
  });
  heads.replaceChildren(...made, element("th", { scope: "col", className: "note" }, element("span", { textContent: "Notes" })));
}

export function drawRows(heads, body, clips, selected, { axes, range, note, select }) {
  for (const head of heads.querySelectorAll("[data-column]")) {
    const sorted = head.dataset.column === state.column;
    head.setAttribute("aria-sort", sorted ? (state.down ? "descending" : "ascending") : "none");
    const button = head.firstChild;
    const name = button.textContent.replace(/ [▾▴]$/, "");
    button.textContent = sorted ? `${name} ${state.down ? "▾" : "▴"}` : name;
  }
  body.replaceChildren(...bySort(clips).map((clip) => drawRow(clip, clip === selected, { axes, range, note, select })));
}

function drawRow(clip, current, { axes, range, note, select }) {
  const button = element("button", { type: "button", title: clip.name }, ...breakable(clip.name));
  button.addEventListener("click", () => select(clip));
  const cells = Object.keys(axes).map((axis) => score(clip.row?.[axis] ?? null, axis, range));
  const failed = clip.failure || clip.row?.error ? "failed" : "";
  const pending = clip.row || clip.failure ? "" : "pending";
  const text = note(clip);
  clip.cell = element("td", { className: `note ${failed} ${pending}`, textContent: text, title: text });
  const row = element("tr", {}, element("td", {}, button), ...cells, clip.cell);
  row.className = failed;
  if (current) row.setAttribute("aria-current", "true");
  return row;
}

function score(value, axis, [low, high]) {
  const cell = element("td", { className: axis, textContent: value === null ? "–" : value.toFixed(2) });
  const fill = element("span");
  fill.style.width = `${value === null ? 0 : Math.max(0, Math.min(1, (value - low) / (high - low))) * 100}%`;
  cell.append(element("span", { className: "bar" }, fill));
  return cell;
}
