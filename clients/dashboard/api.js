// Talking to the daemon: JSON, and one stream of events for all tabs of this browser.

let token = "";

export function setToken(value) {
  token = value;
}

export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

function headers(more) {
  return token === "" ? more : { ...more, Authorization: `Bearer ${token}` };
}

export async function request(path, options = {}) {
  const answer = await fetch(path, {
    ...options, headers: headers({ Accept: "application/json", ...options.headers }),
  });
  const text = await answer.text();
  if (!answer.ok) {
    let detail = `${answer.status} ${answer.statusText}`;
    try {
      detail = JSON.parse(text).detail ?? detail;
    } catch { /* not a problem document: the status says it */ }
    throw new Refused(answer.status, detail);
  }
  return text === "" ? null : JSON.parse(text);
}

// Parses text/event-stream, calling onEvent(id, kind, data) for each event.
async function readStream(body, onEvent) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", id = "", kind = "message", data = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) {
      return;
    }
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (data !== "") {
          onEvent(id, kind, JSON.parse(data));
        }
        kind = "message";
        data = "";
        continue;
      }
      const colon = line.indexOf(":");
      const field = line.slice(0, colon), text = line.slice(colon + 1).replace(/^ /, "");
      if (field === "id") {
        id = text;
      } else if (field === "event") {
        kind = text;
      } else if (field === "data") {
        data += text;
      }
    }
  }
}

// The events that a job has had, until onEvent returns true; rejects then, or after 20 seconds.
export async function replay(job, onEvent) {
  const stop = new AbortController();
  const late = setTimeout(() => stop.abort(), 20000);
  try {
    const answer = await fetch(`/v1/jobs/${job}/events`, {
      headers: headers({ Accept: "text/event-stream" }), signal: stop.signal,
    });
    if (answer.ok) {
      await readStream(answer.body, (id, kind, event) => onEvent(kind, event) && stop.abort());
    }
  } finally {
    clearTimeout(late);
  }
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Follows /v1/events for ever; onState("live" | "lost"). Browsers open six connections to a server
// at the most, so one tab holds the stream and tells the others.
export function follow(onEvent, onState) {
  const channel = new BroadcastChannel("shrinkd-events");
  channel.onmessage = ({ data }) => (data.state ? onState(data.state) : onEvent(data.kind, data.event));

  const tellState = (state) => {
    onState(state);
    channel.postMessage({ state });
  };
  const lead = async () => {
    let last = "";
    for (;;) {
      try {
        const answer = await fetch("/v1/events", {
          headers: headers({ Accept: "text/event-stream", ...(last === "" ? {} : { "Last-Event-ID": last }) }),
        });
        if (!answer.ok) {
          throw new Refused(answer.status, answer.statusText);
        }
        tellState("live");
        await readStream(answer.body, (id, kind, event) => {
          last = id;
          onEvent(kind, event);
          channel.postMessage({ kind, event });
        });
      } catch { /* told below; the daemon may be restarting */ }
      tellState("lost");
      await pause(2000);
    }
  };
  if (navigator.locks) {
    navigator.locks.request("shrinkd-events", lead);
  } else {
    lead(); // locks need a secure context: loopback or https
  }
}
