// A gauge for each axis: the score on its scale, its standard deviation, and what the score rests on, in words.

import { element } from "./dom.js";

export function gauge(axis, [name, meaning], row, other, range, bases) {
  const value = row?.[axis] ?? null;
  const second = other?.[axis] ?? null;
  const basis = row?.[`${axis}_basis`];
  const abbreviation = element("abbr", { textContent: axis, title: name });
  const number = element("p", { className: "value" }, value === null ? "–" : value.toFixed(2));
  if (value !== null) number.append(element("small", { textContent: ` of ${range[1]}` }));
  const card = element(
    "article",
    { className: `gauge ${axis}` },
    element("h3", {}, name, abbreviation),
    number,
    scale(value, row?.[`${axis}_std`] ?? null, second, range),
    element("p", { textContent: meaning }),
  );
  if (value === null) return card;
  if (row[`${axis}_std`] !== null) {
    card.append(element("p", { className: "quiet", textContent: `The standard deviation of its error is about ${row[`${axis}_std`].toFixed(2)}.` }));
  }
  if (basis) card.append(element("p", { className: "quiet", textContent: `This score ${bases[basis] ?? `is of the kind ${basis}`}.` }));
  if (second !== null) card.append(element("p", { textContent: difference(value, second) }));
  return card;
}

function difference(value, second) {
  const size = Math.abs(value - second).toFixed(2);
  if (size === "0.00") return `B has the same score.`;
  return `B has ${second.toFixed(2)}, ${size} ${second > value ? "more" : "less"} than A.`;
}

function scale(value, spread, second, [low, high]) {
  const at = (score) => `${Math.min(1, Math.max(0, (score - low) / (high - low))) * 100}%`;
  const bar = element("div", { className: "scale" });
  const ends = element("div", { className: "ends" }, element("span", { textContent: low }), element("span", { textContent: high }));
  for (const part of [bar, ends]) part.setAttribute("aria-hidden", "true");
  const add = (name, left, width) => {
    const mark = element("span", { className: name });
    if (left !== null) mark.style.left = left;
    if (width !== null) mark.style.width = width;
    bar.append(mark);
  };
  if (value !== null) {
    add("fill", null, at(value));
    if (spread !== null) add("range", at(value - spread), `${((2 * spread) / (high - low)) * 100}%`);
  }
  if (second !== null) add("other", at(second), null);
  return element("div", {}, bar, ends);
}
