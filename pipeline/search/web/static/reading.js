// Dwell: how long a snippet that was opened has been on the screen, sent when it is left.

import { keep, searchId, user, whole } from "./page.js";
import { tell } from "./telling.js";

const LEAST_DWELL_MS = 500;

class Dwell {
  constructor(snippetId) {
    this.snippetId = snippetId;
    this.total = 0;
    this.since = null;
    this.told = 0;
  }

  start() {
    if (this.since === null && document.visibilityState === "visible") this.since = performance.now();
  }

  stop() {
    if (this.since !== null) this.total += performance.now() - this.since;
    this.since = null;
  }

  leave() {
    this.stop();
    const dwell = Math.round(this.total);
    if (!searchId || dwell - this.told < LEAST_DWELL_MS) return;
    this.told = dwell;
    const body = { search_id: searchId, snippet_id: Number(this.snippetId), judgement: "click", dwell_ms: dwell };
    if (user) body.user = user;
    const json = new Blob([JSON.stringify(body)], { type: "application/json" });
    if (!navigator.sendBeacon("/feedback", json)) tell(this.snippetId, "click", { dwell_ms: dwell }).catch(() => {});
  }
}

const dwells = new Map();

function opened(snippetId) {
  if (!searchId) return;
  if (!dwells.has(snippetId)) {
    dwells.set(snippetId, new Dwell(snippetId));
    tell(snippetId, "click").catch(() => {});
  }
  dwells.get(snippetId).start();
}

const reading = () => [...dwells.values()].filter((dwell) => {
  const part = document.querySelector(`[data-snippet="${dwell.snippetId}"]`);
  return part?.hasAttribute("data-whole") || part?.querySelector(".rest[open]");
});

document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "hidden") dwells.forEach((dwell) => dwell.leave());
  else reading().forEach((dwell) => dwell.start());
});
addEventListener("pagehide", () => dwells.forEach((dwell) => dwell.leave()));
addEventListener("pageshow", () => reading().forEach((dwell) => dwell.start()));

for (const rest of document.querySelectorAll(".rest")) {
  rest.addEventListener("toggle", () => {
    const { snippet } = rest.closest("[data-snippet]").dataset;
    if (rest.open) opened(snippet);
    else dwells.get(snippet)?.leave();
  });
}
if (whole) {
  const begin = () => opened(whole.dataset.snippet);
  if (document.prerendering) document.addEventListener("prerenderingchange", begin, { once: true });
  else begin();
} else if (searchId) {
  keep("sessionStorage", "last search", searchId);
}
