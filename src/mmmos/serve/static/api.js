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

async function send(path, options = {}) {
  for (;;) {
    const used = token;
    const headers = { ...options.headers, ...(used ? { authorization: `Bearer ${used}` } : {}) };
    let response;
    try {
      response = await fetch(path, { ...options, headers });
    } catch {
      throw new Error("The service cannot be reached. Is it still running?");
    }
    if (response.status === 401) {
      if (used === token) await askForToken();
      continue;
    }
    if (response.status === 429 || (response.status === 503 && path.startsWith("v1/score"))) {
      const seconds = Number(response.headers.get("retry-after")) || 1;
      await new Promise((done) => setTimeout(done, seconds * 1000));
      continue;
    }
    if (!response.ok) throw new Error(await reason(response));
    return response.json();
  }
}

async function reason(response) {
  const words = {
    403: "This page is not allowed to use the service.",
    413: "The file is larger than this service accepts.",
    504: "Scoring took longer than this service allows. Try a shorter clip.",
  };
  if (words[response.status]) return words[response.status];
  const answer = await response.json().catch(() => null);
  return `The service refused the file: ${answer?.error?.message ?? `status ${response.status}`}.`;
}

export const about = () => send("v1/about");

export async function score(name, file) {
  const query = new URLSearchParams({ name: name.slice(0, 1000), segments: "true", outline: "true" });
  const headers = { "content-type": "application/octet-stream" };
  const answer = await send(`v1/score?${query}`, { method: "POST", body: file, headers });
  return answer.rows[0];
}
