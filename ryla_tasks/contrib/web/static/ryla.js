// Jobs from a page: submit, upload, watch, cancel, list. No dependencies; every function but `watch` returns a promise.
//
//   const ryla = Ryla("/ryla", {headers: () => ({"X-CSRFToken": token})});
//   const job = await ryla.submit({task: "generate_image", template: "z-image-turbo", prompt: "a lighthouse"});
//   const stop = ryla.watch(job.id, {
//     progress: ({phase, percent, message, eta_s}) => ...,
//     end: (job) => ...,      // once, with the whole job
//     away: (error) => ...,   // no connection, or the server cannot say right now; it goes on by itself
//     lost: (error) => ...,   // once, and for good: signed out (401), or no such job (404)
//   });
//
// An error has `message` (a sentence for people), `field` (which input it is about) and `status` (HTTP; 0: no answer).

"use strict";

function Ryla(base, {headers = () => ({})} = {}) {
  const root = base.replace(/\/$/, "");

  // A browser opens about six connections to a site, for all of its pages: a stream holds one. Jobs beyond these are
  // asked after instead, so that the page can still do anything else.
  const MOST_STREAMS = 3;
  const ASK_MS = 2_000;
  const LONGEST_MS = 30_000;
  let streams = 0;

  function failed(message, status, told = {}) {
    return Object.assign(new Error(told.message || message), {field: told.field || "", type: told.type || "", status});
  }

  const unreachable = () => failed("The server cannot be reached. Is there a connection?", 0);

  async function call(path, options = {}) {
    let answer;
    try {
      answer = await fetch(root + path, {
        credentials: "same-origin", ...options, headers: {...headers(), ...options.headers},
      });
    } catch {
      throw unreachable();
    }
    const body = await answer.json().catch(() => ({}));
    if (!answer.ok) throw failed(`The server answered ${answer.status}.`, answer.status, body.error);
    return body;
  }

  // Outside of https and localhost a browser has no randomUUID.
  const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))]
    .map((byte) => byte.toString(16).padStart(2, "0")).join("");

  // A POST whose answer is lost is made again with the same key, and gives the same job.
  const submit = (wish, {key = newKey()} = {}) => call("/jobs", {
    method: "POST", body: JSON.stringify(wish),
    headers: {"Content-Type": "application/json", "Idempotency-Key": key},
  });

  const upload = (file) => {
    const form = new FormData();
    form.append("file", file);
    return call("/uploads", {method: "POST", body: form});
  };

  const get = (id) => call(`/jobs/${encodeURIComponent(id)}`);
  const list = (query = {}) => call(`/jobs?${new URLSearchParams(query)}`).then((answer) => answer.jobs);
  const cancel = (id) => call(`/jobs/${encodeURIComponent(id)}/cancel`, {method: "POST"});

  // After a cut the browser comes back by itself, and goes on where it was (Last-Event-ID). Where the server refused the
  // stream (401, 404, 503) or there is nothing more (204) it would not: then the job itself is asked after, which tells
  // what is the matter, and the stream is opened anew.
  function watch(id, {progress = () => {}, end = () => {}, away = () => {}, lost = away} = {}) {
    let source = null, timer = 0, over = false, position = "", pause = ASK_MS, cuts = 0;

    function close() {
      if (source === null) return;
      source.close();
      source = null;
      streams -= 1;
    }

    function stop() {
      over = true;
      clearTimeout(timer);
      close();
    }

    function open() {
      if (over) return;
      if (streams >= MOST_STREAMS) {
        look();
        return;
      }
      streams += 1;
      const after = position ? `?after=${encodeURIComponent(position)}` : "";
      source = new EventSource(`${root}/jobs/${encodeURIComponent(id)}/events${after}`, {withCredentials: true});
      source.onopen = () => { cuts = 0; };
      source.onmessage = (message) => {
        position = message.lastEventId || position;
        pause = ASK_MS;
        progress(JSON.parse(message.data));
      };
      source.addEventListener("end", () => { close(); look(); });
      source.onerror = () => {
        if (over || source === null) return;
        if (source.readyState !== EventSource.CLOSED) {
          // It comes back by itself. One cut is nothing: servers end streams now and then.
          cuts += 1;
          if (cuts > 1) away(unreachable());
          return;
        }
        close();
        look();
      };
    }

    async function look() {
      if (over) return;
      try {
        const job = await get(id);
        if (over) return;
        if (job.ended) {
          stop();
          end(job);
          return;
        }
        pause = ASK_MS;
        progress({type: "look", phase: job.status, percent: job.percent, message: job.message, eta_s: job.eta_s,
          attempt: job.attempt});
      } catch (error) {
        if (over) return;
        if ([401, 403, 404].includes(error.status)) {
          stop();
          lost(error);
          return;
        }
        away(error);
        pause = Math.min(2 * pause, LONGEST_MS);
      }
      timer = setTimeout(open, pause * (0.75 + Math.random() / 2));
    }

    open();
    return stop;
  }

  return {submit, upload, get, list, cancel, watch};
}
