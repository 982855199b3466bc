// Files from a drop, which may hold folders, from the two file choosers, and from the microphone.

const AUDIO = /\.(wav|wave|flac|mp3|mp2|m4a|mp4|aac|ogg|oga|opus|webm|aif|aiff|aifc|au|snd|caf|w64|wma|ac3|mka|mkv|mov|3gp|amr|gsm|sph|nist)$/i;

export const named = (file) => ({ name: file.webkitRelativePath || file.name, file });

// Of a folder only what looks like audio; files that were picked one by one are all sent.
export const fromFolder = (files) => [...files].filter((file) => AUDIO.test(file.name)).map(named);

export async function fromDrop(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map(named);
  const found = [];
  for (const entry of entries) await walk(entry, "", found, true);
  return found;
}

async function walk(entry, path, found, dropped) {
  if (entry.isFile) {
    if (!dropped && !AUDIO.test(entry.name)) return;
    const file = await new Promise((done, failed) => entry.file(done, failed));
    found.push({ name: path + entry.name, file });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const batch = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!batch.length) return;
    for (const inner of batch) await walk(inner, `${path}${entry.name}/`, found, false);
  }
}

let recorder = null;

// Begins to record, or ends a recording. Resolves to whether it records now; `done` gets the file in the end.
export async function toggleRecording(done) {
  if (recorder) {
    recorder.stop();
    return false;
  }
  if (!navigator.mediaDevices) throw new Error("Recording needs HTTPS, or this computer's own address (127.0.0.1).");
  let stream;
  try {
    const asRecorded = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    stream = await navigator.mediaDevices.getUserMedia({ audio: asRecorded });
  } catch {
    throw new Error("The microphone cannot be used. Allow it for this page, and check that one is connected.");
  }
  const parts = [];
  recorder = new MediaRecorder(stream);
  recorder.ondataavailable = (event) => parts.push(event.data);
  recorder.onstop = () => {
    stream.getTracks().forEach((track) => track.stop());
    const kind = recorder.mimeType;
    recorder = null;
    const time = new Date().toTimeString().slice(0, 8).replaceAll(":", "-");
    done({ name: `recording ${time}.${kind.includes("mp4") ? "m4a" : "webm"}`, file: new Blob(parts, { type: kind }) });
  };
  recorder.start();
  return true;
}
