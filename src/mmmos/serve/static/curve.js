// The scores of a clip over time: steps of 10 seconds, or for a short clip a curve of overlapping windows.

const WINDOW = 10; // s
const LONGEST = 120; // s; a longer clip has enough windows without overlap
const POINTS = 20;

// Seconds from the start of a window to the next, in halves, for a curve of about `POINTS`; null if there is none.
export function hopOf(row) {
  if (!row || row.error || !(row.duration > WINDOW) || row.duration > LONGEST || !row.segments?.length) return null;
  return Math.max(1, Math.ceil((2 * (row.duration - WINDOW)) / POINTS)) / 2;
}

// Lists of [time, score, spread] without gaps. The score of an overlapping window is drawn at its middle.
export function runs({ row, curve }, axis) {
  const windows = curve ?? row?.segments ?? [];
  const half = curve ? hopOf(row) / 2 : 0;
  const found = [];
  let before = null;
  for (const part of windows) {
    const [score, spread] = [part[axis], part[`${axis}_std`] ?? 0];
    if (score === null) {
      before = null;
      continue;
    }
    if (!curve) {
      found.push([[part.start_time, score, spread], [part.end_time, score, spread]]);
      continue;
    }
    const middle = (part.start_time + part.end_time) / 2;
    if (!before) found.push([[part === windows[0] ? part.start_time : middle - half, score, spread]]);
    before = found.at(-1);
    before.push([middle, score, spread]);
    if (part === windows.at(-1)) before.push([part.end_time, score, spread]);
  }
  return found;
}
