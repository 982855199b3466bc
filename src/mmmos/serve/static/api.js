// Requests to the service: what it is, and the scores of one file. Refusals are thrown as sentences.

let token = null;
let asking = null;

function askForToken() {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("token-dialog");
    dialog.addEventListener("close", () => {
      token = document.getElementById("token").value.trim();
      asking = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

async function send(path, options = {}, read = (response) => response.json()) {
  for (;;) {
    const used = token;
    const headers = { ...options.headers, ...(used ? { authorization: `Bearer ${used}` } : {}) };
    let response;
    try {
      response = await fetch(path, { ...options, headers });
    } catch (error) {
      throw options.signal?.aborted ? error : new Error("The service cannot be reached. Is it still running?");
    }
    if (response.status === 401) {
      if (used === token) await askForToken();
      continue;
    }
    if (response.status === 429 || (response.status === 503 && path.startsWith("v1/score"))) {
      const seconds = Number(response.headers.get("retry-after")) || 1;
      await new Promise((done) => setTimeout(done, seconds * 1000));
      options.signal?.throwIfAborted();
      continue;
    }
    if (!response.ok) throw new Error(await reason(response));
    return read(response);
  }
}

const LATE = "Scoring took longer than this service allows. Try a shorter clip.";

// The last of the lines of JSON; those before it report progress.
async function lastLine(response, progressed) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let [rest, last] = ["", {}];
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const lines = (rest + part.value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        last = JSON.parse(line);
        if (last.progress) progressed(last.progress[0]);
      }
    }
  } catch {
    last = {};
  }
  if (last.error) throw new Error(LATE);
  if (!last.rows) throw new Error("The service ended the connection before the clip was scored. Is it still running?");
  return last;
}

async function reason(response) {
  const words = {
    403: "This page is not allowed to use the service.",
    413: "The file is larger than this service accepts.",
    504: LATE,
  };
  if (words[response.status]) return words[response.status];
  const answer = await response.json().catch(() => null);
  return `The service refused the file: ${answer?.error?.message ?? `status ${response.status}`}.`;
}

export const about = () => send("v1/about");

async function post(name, file, options, read, signal) {
  const query = new URLSearchParams({ name: name.slice(0, 1000), ...options });
  const headers = { "content-type": "application/octet-stream" };
  const answer = await send(`v1/score?${query}`, { method: "POST", body: file, headers, signal }, read);
  return answer.rows[0];
}

// The row of a file. `progressed` gets {seconds, duration}: the time up to which it is scored, and its length. `signal`
// ends the request, and with it the scoring.
export const score = (name, file, progressed, signal) =>
  post(name, file, { segments: "true", outline: "true", progress: "true" }, (response) => lastLine(response, progressed), signal);

// The rows of overlapping windows, one every `hop` seconds.
export const overlapping = async (name, file, hop, signal) =>
  (await post(name, file, { hop }, undefined, signal)).segments;
