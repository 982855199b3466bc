// What the page says of a clip, in words.

import { hopOf } from "./curve.js";
import { clock } from "./dom.js";

const LONG = 60; // s; of a longer clip, it is shown how long the rest takes

const size = (bytes) => (bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

// Why a clip has no scores; empty if it has them, or is not scored yet.
export const failureOf = (clip, { errors }) => clip.failure ?? (clip.row?.error ? errors[clip.row.error.code] ?? clip.row.error.message : "");

// The note of a clip in the table.
export function note(clip, waits, phrases) {
  if (!clip.row && !clip.failure) {
    if (waits) return "waiting";
    return clip.progress?.fraction ? `scoring, ${Math.floor(100 * clip.progress.fraction)} %` : "scoring";
  }
  const failure = failureOf(clip, phrases);
  if (failure) return failure;
  return [clip.row.domain, ...clip.row.warnings.map((code) => code.replaceAll("_", " "))].filter(Boolean).join(", ");
}

// What is shown of {seconds, duration}: the part that is scored, in words, too. `now` is in milliseconds.
export function progressOf(before, { seconds, duration }, now) {
  const fraction = duration ? Math.min(1, seconds / duration) : 0;
  const long = duration > LONG;
  const start = before?.start ?? (fraction ? { now, fraction } : undefined);
  if (!duration) return { start, fraction, long, words: "Reading the file" };
  const known = start && long && fraction > start.fraction;
  const left = known ? `, ${timeLeft(((now - start.now) * (1 - fraction)) / (fraction - start.fraction) / 1000)}` : "";
  return { start, fraction, long, words: `Scored up to ${clock(seconds)} of ${clock(duration)}${left}` };
}

const timeLeft = (seconds) => (seconds < 50 ? "less than a minute left" : `about ${Math.round(seconds / 60)} min left`);

export function facts({ row, file }) {
  if (!row) return `${size(file.size)}, being scored`;
  const channels = { 1: "mono", 2: "stereo" }[row.channels] ?? `${row.channels} channels`;
  if (row.error || row.sample_rate === null) return size(file.size);
  const domain = row.domain ? `classified as ${row.domain}` : "";
  return [domain, clock(row.duration), `${row.sample_rate / 1000} kHz`, channels, size(file.size)].filter(Boolean).join(" · ");
}

// The scale, and what the marks in bars and picture are.
export function explained(clip, compared, axes, { scale: [low, high], calibrated }) {
  const { row, curve } = clip;
  const spread = row && axes.some((axis) => row[`${axis}_std`] !== null);
  const band = spread ? " The framed part of a bar is one standard deviation on either side of the score." : "";
  const mark = compared ? " The long mark across a bar is the score of B." : "";
  const loose = calibrated ? "" : " Compare clips of one kind only: the model was not checked against other listeners.";
  return `Scores run from ${low} to ${high}, the scale on which listeners rated.${band}${mark}${lines(row, curve)}${loose}`;
}

function lines(row, curve) {
  if (!row?.n_windows) return "";
  if (curve) return " The lines in the picture, in the colours of the boxes, are the scores of the 10 seconds around each moment.";
  if (row.n_windows === 1 && !hopOf(row)) return " The lines in the picture, in the colours of the boxes, are straight, as the model scores 10 seconds at a time.";
  return " The lines in the picture, in the colours of the boxes, are the scores of each 10 seconds.";
}
