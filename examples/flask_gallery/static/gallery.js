// The gallery's page: a card for each job, newest first. What was ended when the page was made is in it; the others are
// watched until they have ended.

"use strict";

const gallery = (() => {
  const find = (id) => document.getElementById(id);
  const rows = find("rows"), form = find("wish"), cards = find("cards"), cost = find("cost");
  const ryla = Ryla(rows.dataset.ryla);
  const button = form.querySelector("button.main"), problem = find("problem");

  // --- in words ---

  const dollars = (usd) => usd === null || usd === undefined ? "" : `$${usd.toFixed(usd < 1 ? 4 : 2)}`;

  function timeLeft(seconds) {
    if (seconds === null || seconds === undefined) return "";
    if (seconds < 1) return "Any moment now";
    if (seconds < 90) return `About ${Math.ceil(seconds)} s left`;
    return seconds < 5400 ? `About ${Math.round(seconds / 60)} min left` : `About ${(seconds / 3600).toFixed(1)} h left`;
  }

  const say = (text) => { find("said").textContent = text; };

  // --- cards ---

  function make(kind, row) {
    const card = find(kind).content.firstElementChild.cloneNode(true);
    card.dataset.job = row.job_id;
    card.querySelector(".title").textContent = row.title;
    card.querySelector(".title").title = row.title;
    return card;
  }

  function place(card) {
    const old = cards.querySelector(`[data-job="${CSS.escape(card.dataset.job)}"]`);
    if (old) old.replaceWith(card); else cards.append(card);
    find("empty").hidden = true;
    return card;
  }

  function showPicture(row) {
    row.urls.forEach((url, number) => {
      const card = make("picture", row);
      if (number) card.dataset.job += `-${number}`;
      const link = card.querySelector("a"), image = card.querySelector("img");
      link.href = url;
      image.src = url;
      image.alt = row.title;
      card.querySelector(".facts").textContent = row.seed ? `Seed ${row.seed}` : "";
      card.querySelector(".facts").title = row.template;
      card.querySelector(".price").textContent = dollars(row.cost_usd);
      place(card);
    });
  }

  function showTraining(row) {
    const card = place(make("trained", row));
    card.querySelector(".price").textContent = dollars(row.cost_usd);
    card.querySelector("a").href = row.urls[0];
  }

  function showFailed(row) {
    const card = place(make("failed", row)), stopped = row.status === "cancelled";
    card.classList.toggle("stopped", stopped);
    card.querySelector(".problem").textContent = stopped ? "Cancelled" : row.problem;
    card.querySelector(".price").textContent = row.cost_usd ? dollars(row.cost_usd) : "";
    card.querySelector(".remove").addEventListener("click", async () => {
      const answer = await fetch(`/remove/${encodeURIComponent(row.job_id)}`, {method: "POST"}).catch(() => null);
      if (answer === null || !answer.ok && answer.status !== 404) return;
      card.remove();
      find("empty").hidden = cards.children.length > 0;
    });
  }

  function show(row) {
    if (row.status !== "completed") showFailed(row);
    else if (row.task === "train_lora") showTraining(row);
    else showPicture(row);
  }

  function follow(row, {first = false} = {}) {
    const card = make("running", row);
    if (first) cards.prepend(card);
    place(card);
    const bar = card.querySelector("[role=progressbar]"), cancel = card.querySelector(".cancel");
    const part = (name) => card.querySelector(`.${name}`);
    card.querySelector(".canvas").hidden = row.task === "train_lora";
    bar.setAttribute("aria-label", `Progress: ${row.title}`);
    let phase = "", endsAt = null;

    const clock = setInterval(() => {
      part("left").textContent = endsAt === null ? "" : timeLeft((endsAt - Date.now()) / 1000);
    }, 500);

    function told(event) {
      card.classList.remove("away");
      if (event.percent !== undefined) {
        part("fill").style.width = `${event.percent}%`;
        part("percent").textContent = event.percent ? `${Math.round(event.percent)} %` : "";
        bar.setAttribute("aria-valuenow", Math.round(event.percent));
      }
      if (event.message) {
        part("phase").textContent = event.message;
        bar.setAttribute("aria-valuetext", event.message);
      }
      if (event.eta_s !== undefined) endsAt = event.eta_s === null ? null : Date.now() + 1000 * event.eta_s;
      if (event.phase && event.phase !== phase) {
        phase = event.phase;
        card.dataset.phase = phase;
        say(`${row.title}: ${event.message || phase}`);
      }
    }

    function over() {
      clearInterval(clock);
      return card.contains(document.activeElement);
    }

    ryla.watch(row.job_id, {
      progress: told,
      end(job) {
        const focused = over();
        row = {...row, status: job.status, problem: job.error ? job.error.message : "", seed: job.seed ?? "",
          template: job.label, cost_usd: job.cost_usd, urls: job.files.map((file) => file.url)};
        show(row);
        if (focused) form.querySelector("textarea, input").focus();
        cost.dataset.usd = Number(cost.dataset.usd) + (job.cost_usd || 0);
        cost.textContent = dollars(Number(cost.dataset.usd));
        say(`${row.title}: ${job.message}`);
      },
      away() {
        card.classList.add("away");
        part("phase").textContent = "Waiting for the connection";
      },
      lost(error) {
        over();
        if (error.status === 401) location.reload();
        else showFailed({...row, status: "failed", problem: error.message});
      },
    });

    cancel.addEventListener("click", async () => {
      // Not `disabled`: it would lose the focus, and with it the place of whoever uses the keyboard.
      if (cancel.getAttribute("aria-disabled")) return;
      cancel.setAttribute("aria-disabled", "true");
      part("phase").textContent = "Cancelling";
      try {
        await ryla.cancel(row.job_id);
      } catch (error) {
        if (error.status === 401) location.reload();
        if (error.status !== 409) {
          part("phase").textContent = error.message;
          cancel.removeAttribute("aria-disabled");
        }
      }
    });
    return card;
  }

  // --- the form ---

  // What it asks for. A page with more to do before (uploads) puts its own function here.
  const page = {
    async wish(fields) {
      const [width, height] = fields.get("size").split("x").map(Number);
      const seed = fields.get("seed").trim();
      return {template: fields.get("template"), prompt: fields.get("prompt").trim(), width, height,
        ...(seed ? {seed: Number(seed)} : {})};
    },
    sent() {},
  };

  function complain(error) {
    problem.textContent = error ? error.message.replace(/^(\w+): /, "") : "";
    problem.hidden = !error;
    for (const field of form.elements) field.removeAttribute("aria-invalid");
    const field = error && error.field && form.elements[error.field.split(".")[0]];
    if (field instanceof HTMLElement) {
      field.setAttribute("aria-invalid", "true");
      field.focus();
    }
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    button.disabled = true;
    complain(null);
    try {
      const wish = {task: form.dataset.task, ...await page.wish(new FormData(form))};
      const job = await ryla.submit(wish);
      const row = {job_id: job.id, task: wish.task, title: wish.prompt || wish.trigger_word};
      page.sent();
      follow(row, {first: true}).scrollIntoView({block: "nearest", behavior: "smooth"});
    } catch (error) {
      if (error.status === 401) location.reload();
      complain(error);
    } finally {
      button.disabled = false;
    }
  });

  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });

  const all = JSON.parse(rows.textContent);
  find("empty").hidden = all.length > 0;
  for (const row of all) if (row.status) show(row); else follow(row);

  return {ryla, form, button, page, find, dollars};
})();
