// Jobs from a page: submit, upload, watch, cancel, list. No dependencies; every function returns a promise.
//
//   const ryla = Ryla("/ryla", {headers: () => ({"X-CSRFToken": token})});
//   const job = await ryla.submit({task: "generate_image", template: "z-image-turbo", prompt: "a lighthouse"});
//   const stop = ryla.watch(job.id, {progress: (event) => ..., end: (job) => ..., away: () => ...});
//
// An error has `message` (a sentence for people), `field` (which input it is about) and `status` (HTTP).

"use strict";

function Ryla(base, {headers = () => ({})} = {}) {
  const root = base.replace(/\/$/, "");

  async function call(path, options = {}) {
    const answer = await fetch(root + path, {
      credentials: "same-origin", ...options, headers: {...headers(), ...options.headers},
    });
    const body = await answer.json().catch(() => ({}));
    if (!answer.ok) {
      const told = body.error || {};
      throw Object.assign(new Error(told.message || `The server answered ${answer.status}.`),
        {field: told.field || "", type: told.type || "", status: answer.status});
    }
    return body;
  }

  // A POST whose answer is lost is made again with the same key, and gives the same job.
  const submit = (wish, {key = crypto.randomUUID()} = {}) => call("/jobs", {
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

  // The browser comes back by itself after a cut, and goes on where it was (Last-Event-ID). `away` is told of each cut.
  function watch(id, {progress = () => {}, end = () => {}, away = () => {}} = {}) {
    const source = new EventSource(`${root}/jobs/${encodeURIComponent(id)}/events`, {withCredentials: true});
    let over = false;
    const finish = () => {
      if (over) return;
      over = true;
      source.close();
      get(id).then(end, away);
    };
    source.onmessage = (message) => progress(JSON.parse(message.data));
    source.addEventListener("end", finish);
    source.onerror = () => {
      if (over) return;
      if (source.readyState === EventSource.CLOSED) finish();  // refused, or there is nothing more (204)
      else away();
    };
    return () => { over = true; source.close(); };
  }

  return {submit, upload, get, list, cancel, watch};
}
