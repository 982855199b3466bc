// One strip per metric: published rows as dots, the user's row with its interval, and the noise ceiling as a line.

const data = JSON.parse(byId("data").textContent);

function strip(item, name) {
  const known = [...item.others.map(other => other.value), item.value, item.ceiling, ...item.interval].filter(value => value !== null);
  const [least, most] = [Math.min(...known), Math.max(...known)], margin = (most - least) * 0.06 || 0.05;
  const lower = item.metric === "MSE", x = scale(least - margin, most + margin, ...(lower ? [252, 8] : [8, 252]));
  const marks = ticks(least - margin, most + margin, 5).flatMap(tick => [
    el("line", { x1: x(tick), x2: x(tick), y1: 48, y2: 52, stroke: "var(--line)" }),
    el("text", { x: x(tick), y: 64, "text-anchor": "middle" }, String(tick)),
  ]);
  const dots = item.others.map((other, i) => el("circle", { cx: x(other.value), cy: 22 + ((i * 5) % 3) * 5 - 5, r: 3.5, fill: "var(--c7)", "fill-opacity": 0.75 },
    el("title", {}, `${other.team} ${other.value.toFixed(3)}`)));
  const ceiling = item.ceiling === null ? [] : [
    el("line", { x1: x(item.ceiling), x2: x(item.ceiling), y1: 4, y2: 48, stroke: "var(--bad)", "stroke-width": 1.6, "stroke-dasharray": "4 3" }, el("title", {}, `noise ceiling ${item.ceiling.toFixed(3)}`)),
  ];
  const interval = item.interval[0] === null ? [] : [el("line", { x1: x(item.interval[0]), x2: x(item.interval[1]), y1: 38, y2: 38, stroke: "var(--accent)", "stroke-width": 2 })];
  const own = item.value === null ? [] : [el("circle", { cx: x(item.value), cy: 38, r: 5, fill: "var(--accent)" }, el("title", {}, `${name} ${item.value.toFixed(3)}`))];
  return el("div", {}, el("h3", {}, `${item.metric} `, el("span", {}, `by ${item.level}${lower ? ", lower is better" : ""}`)),
    el("svg", { viewBox: "0 0 260 68", role: "img", "aria-label": `${item.metric} by ${item.level}` },
      el("line", { x1: 4, x2: 256, y1: 48, y2: 48, stroke: "var(--line)" }), marks, dots, interval, own, ceiling));
}

for (const board of data) {
  const place = document.querySelector(`.strips[data-axis="${board.axis}"]`);
  place.replaceChildren(...board.strips.map(item => strip(item, board.name)));
  const dot = hue => el("i", { style: `background:${hue}` });
  place.after(el("ul", { class: "legend" }, el("li", {}, dot("var(--c7)"), "published"), el("li", {}, dot("var(--accent)"), `${board.name}, with 95 % interval`), el("li", {}, dot("var(--bad)"), "noise ceiling (dashed)")));
}
