"use strict";
// Small helpers that all pages use: elements, axes of charts, sortable tables.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes and children; text is always text, never HTML. */
function el(name, attributes = {}, ...children) {
  const svg = ["svg", "g", "path", "line", "rect", "circle", "text", "title", "polygon", "polyline"].includes(name);
  const node = svg ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.flat().filter(child => child !== null && child !== undefined));
  return node;
}

const byId = id => document.getElementById(id);
const color = code => `var(--c${Math.min(code, 7)})`;
const cssColor = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const fixed = (value, digits = 2) => (value === null || !isFinite(value) ? "–" : value.toFixed(digits));
const signed = value => (Math.abs(value) < 0.005 ? "" : value > 0 ? "+" : "−") + Math.abs(value).toFixed(2);
const thousands = value => value.toLocaleString("en");

/** Seconds as "3:05" or "1:02:03". */
function clock(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const pad = value => String(value).padStart(2, "0");
  const minutes = Math.floor(whole / 60) % 60;
  return whole >= 3600 ? `${Math.floor(whole / 3600)}:${pad(minutes)}:${pad(whole % 60)}` : `${minutes}:${pad(whole % 60)}`;
}

/** Hours as text; minutes below an hour. */
const hoursText = hours => (hours >= 1 ? `${hours.toFixed(1)} h` : `${(60 * hours).toFixed(1)} min`);

/** Round steps for at most `most` ticks from low to high. */
function ticks(low, high, most = 6) {
  const span = high - low || 1;
  const base = 10 ** Math.floor(Math.log10(span / most));
  const step = [1, 2, 5, 10].map(times => times * base).find(size => span / size <= most);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(+(i * step).toPrecision(12));
  return found;
}

/** A linear map from [low, high] to [from, to]. */
const scale = (low, high, from, to) => value => from + ((value - low) / (high - low || 1)) * (to - from);

const quantile = (sorted, part) => {
  const place = (sorted.length - 1) * part, below = Math.floor(place);
  return sorted.length ? sorted[below] + (place - below) * ((sorted[below + 1] ?? sorted[below]) - sorted[below]) : NaN;
};

/** A table. A cell is text, or an object of attributes with its content as `text`. */
function tableOf(heads, lines) {
  const cell = (name, content) => {
    if (content === null || typeof content !== "object") return el(name, {}, String(content));
    const { text, ...attributes } = content;
    return el(name, attributes, text);
  };
  const row = (name, cells) => el("tr", {}, cells.map(content => cell(name, content)));
  return el("table", {}, el("thead", {}, row("th", heads)), el("tbody", {}, lines.map(cells => row("td", cells))));
}

const words = text => ({ text, class: "words" });
const prose = text => ({ text, class: "words wrap" });
const number = (text, sort) => ({ text, "data-sort": sort ?? "" });
const scrolling = table => el("div", { class: "scroll" }, table);

/** Let the headers of a table sort its rows by `data-sort`, or by text; a second click reverses the order. */
function sortable(table) {
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  const spanned = (table.tBodies[0].rows[0]?.cells.length ?? heads.length) - heads.length; // first columns of two-line heads
  heads.forEach((head, number) => {
    const column = number + spanned;
    if (head.dataset.fixed !== undefined) return;
    const button = el("button", { type: "button", title: "Sort by this column" }, ...head.childNodes);
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const first = head.dataset.first ?? "descending";
      const order = head.getAttribute("aria-sort") === first ? (first === "ascending" ? "descending" : "ascending") : first;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const key = row => {
        const cell = row.cells[column], text = cell.dataset.sort ?? cell.textContent.trim();
        return text !== "" && isFinite(text) ? +text : text;
      };
      const missing = value => value === "" || value === "–";
      const compare = (a, b) => {
        if (missing(a) || missing(b)) return missing(a) - missing(b);
        return sign * (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
      };
      for (const body of table.tBodies) body.append(...[...body.rows].sort((a, b) => compare(key(a), key(b))));
    });
  });
}

/** Call `draw` now, when the theme changes, and before and after printing. */
function drawn(draw) {
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  matchMedia("print").addEventListener("change", draw);
}

/** A canvas context at the screen's resolution, cleared; the canvas takes `width` by `height` CSS pixels. */
function context(canvas, width, height) {
  const ratio = Math.max(1, devicePixelRatio || 1);
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const ctx = canvas.getContext("2d");
  ctx.scale(ratio, ratio);
  ctx.font = '11px system-ui, "DejaVu Sans", sans-serif';
  return ctx;
}
