// The admin's pages of jobs: what is under way is kept up to date.

"use strict";

for (const place of document.querySelectorAll("[data-ryla-live]")) {
  const ryla = Ryla(place.dataset.rylaLive);
  for (const row of place.querySelectorAll("[data-ryla-job]")) {
    const show = (status, percent, message) => {
      const state = row.querySelector("[data-ryla-state]");
      const bar = row.querySelector("[data-ryla-bar]");
      if (status) {
        state.textContent = status;
        state.className = `ryla-state ryla-${status}`;
      }
      if (bar && percent !== undefined) bar.value = percent;
      if (message) row.querySelector("[data-ryla-message]").textContent = message;
    };
    ryla.watch(row.dataset.rylaJob, {
      progress: ({phase, percent, message}) => show(phase, percent, message),
      end: (job) => {
        if ("rylaReload" in row.dataset) {
          location.reload();
          return;
        }
        show(job.status, 100, job.error ? job.error.message : job.message);
        const bar = row.querySelector("[data-ryla-bar]");
        if (bar) bar.remove();
      },
    });
  }
}
