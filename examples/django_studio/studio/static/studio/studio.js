// What is under way is kept up to date, and can be cancelled. Everything else works without a script.

"use strict";

const ryla = Ryla("/ryla", {headers: () => ({"X-CSRFToken": document.body.dataset.csrf})});

function say(text) {
  document.querySelector("[data-said]").textContent = text;
}

function timeLeft(seconds) {
  if (!(seconds >= 1)) return "\u00a0";
  return seconds < 90 ? `About ${Math.round(seconds)} s left` : `About ${Math.round(seconds / 60)} min left`;
}

// The server draws what has become of it.
async function redraw(card) {
  const answer = await fetch(card.dataset.work, {credentials: "same-origin"});
  if (!answer.ok) return;
  const place = document.createElement("template");
  place.innerHTML = await answer.text();
  const drawn = place.content.querySelector("li");
  card.replaceWith(drawn);
  document.querySelector("[data-cost]").textContent = `$${drawn.dataset.costNow}`;
  say(`${drawn.querySelector(".caption span").textContent}: ${drawn.dataset.status}`);
  attend(drawn);
}

function attend(card) {
  if (!card.dataset.job) return;
  const bar = card.querySelector("[role=progressbar]");
  const phase = card.querySelector("[data-phase]"), left = card.querySelector("[data-left]");
  ryla.watch(card.dataset.job, {
    progress: (event) => {
      if (event.phase === undefined) return;
      card.dataset.status = event.phase;
      phase.textContent = event.message;
      left.textContent = timeLeft(event.eta_s);
      bar.setAttribute("aria-valuenow", Math.round(event.percent));
      bar.firstElementChild.style.inlineSize = `${event.percent}%`;
    },
    end: () => redraw(card),
    away: (error) => { left.textContent = error.message; },
    lost: () => { phase.textContent = "Waiting to be sent"; left.textContent = "Come back in a minute."; },
  });
  const button = card.querySelector("[data-cancel]");
  button.hidden = false;
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await ryla.cancel(card.dataset.job);
      phase.textContent = "Stopping";
    } catch (error) {
      left.textContent = error.message;
      button.disabled = false;
    }
  });
}

document.querySelectorAll("[data-job]").forEach(attend);
