// The picture of a clip: its waveform, the four scores over time, and the position. A slider for keyboard and mouse.

import { runs } from "./curve.js";
import { clock, element, svg } from "./dom.js";

const WIDTH = 1000;
const HEIGHT = 100;
const PAD = 6; // so that scores at the ends of the scale stay visible

export class Wave {
  constructor(clip, tag, axes, range, seek) {
    this.clip = clip;
    this.duration = clip.row?.duration || 0;
    this.head = svg("line", { class: "head", x1: 0, x2: 0, y1: 0, y2: HEIGHT });
    const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    this.node = element("div", { className: "wave", tabIndex: 0 }, picture);
    this.node.setAttribute("role", "slider");
    this.node.setAttribute("aria-label", `Position in ${clip.name}`);
    this.node.setAttribute("aria-valuemin", 0);
    this.node.setAttribute("aria-valuemax", Math.round(this.duration));
    this.y = (score) => HEIGHT - PAD - ((score - range[0]) / (range[1] - range[0])) * (HEIGHT - 2 * PAD);
    for (const value of [range[0], (range[0] + range[1]) / 2, range[1]]) {
      picture.append(svg("line", { class: "grid", x1: 0, x2: WIDTH, y1: this.y(value), y2: this.y(value) }));
      const tick = element("span", { className: "tick", textContent: value });
      tick.setAttribute("aria-hidden", "true");
      tick.style.top = `${this.y(value)}%`;
      this.node.append(tick);
    }
    if (clip.row?.outline) picture.append(this.shape(clip.row.outline));
    this.axes = axes;
    this.curves = svg("g");
    picture.append(this.curves, this.head);
    this.drawCurves();
    if (tag) this.node.append(element("span", { className: "tag", textContent: tag }));
    this.listen(seek);
    this.show(0);
    this.wait();
  }

  // How far the clip is scored, in an empty picture.
  wait() {
    const { row, failure, progress } = this.clip;
    if (row || failure || !progress) return;
    if (!this.bar) {
      this.bar = element("progress", { max: 1, value: 0, ariaLabel: `Scoring of ${this.clip.name}` });
      this.text = element("p", { className: "quiet" });
      this.node.append(element("div", { className: "waiting" }, this.text, this.bar));
    }
    this.text.textContent = progress.words;
    this.bar.value = progress.fraction;
  }

  x(seconds) {
    return this.duration ? (seconds / this.duration) * WIDTH : 0;
  }

  shape({ peaks, seconds }) {
    const middle = HEIGHT / 2;
    const points = peaks.map((peak, i) => [this.x((i + 0.5) * seconds).toFixed(1), Math.max(0.4, peak * middle * 0.95)]);
    const line = (sign) => points.map(([x, size]) => `${x},${(middle + sign * size).toFixed(1)}`);
    return svg("path", { class: "shape", d: `M${[...line(-1), ...line(1).reverse()].join("L")}Z` });
  }

  drawCurves() {
    this.curves.replaceChildren(...this.axes.flatMap((axis) => {
      const found = runs(this.clip, axis);
      const line = (points) => points.map(([time, score]) => `${this.x(time).toFixed(1)},${this.y(score).toFixed(2)}`).join("L");
      const edge = (run, sign) => run.map(([time, score, spread]) => [time, score + sign * spread]);
      const band = found.map((run) => `M${line([...edge(run, -1), ...edge(run, 1).reverse()])}Z`);
      return [
        svg("path", { class: `spread ${axis}`, d: band.join("") }),
        svg("path", { class: `score ${axis}`, d: found.map((run) => `M${line(run)}`).join("") }),
      ];
    }));
  }

  listen(seek) {
    this.node.addEventListener("click", (event) => {
      const box = this.node.getBoundingClientRect();
      seek(((event.clientX - box.left) / box.width) * this.duration, true);
    });
    this.node.addEventListener("keydown", (event) => {
      const step = Math.max(1, this.duration / 50);
      const now = Number(this.node.getAttribute("aria-valuenow"));
      const to = { ArrowRight: now + step, ArrowUp: now + step, ArrowLeft: now - step, ArrowDown: now - step, Home: 0, End: this.duration }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      seek(Math.min(Math.max(0, to), this.duration), false);
    });
  }

  show(seconds) {
    for (const end of ["x1", "x2"]) this.head.setAttribute(end, this.x(seconds));
    this.node.setAttribute("aria-valuenow", seconds.toFixed(1));
    this.node.setAttribute("aria-valuetext", `${clock(seconds)} of ${clock(this.duration)}`);
  }
}
