// A verdict is shown on this page, in other tabs with the same search, and when the person comes back to it.
// Of several people who share a browser, each sees their own.

import { keep, kept, say, searchId, toast, user } from "./page.js";
import { tell } from "./telling.js";

const KEPT_VERDICTS = 300;
const VERDICTS = "verdicts";
const memory = (snippetId) => `${user} ${searchId} ${snippetId}`;

function verdicts() {
  try {
    return new Map(JSON.parse(kept("localStorage", VERDICTS) ?? "[]"));
  } catch {
    return new Map();
  }
}

function memorise(snippetId, verdict) {
  const known = verdicts();
  known.delete(memory(snippetId)); // so that the newest come last
  if (verdict) known.set(memory(snippetId), verdict);
  keep("localStorage", VERDICTS, JSON.stringify([...known].slice(-KEPT_VERDICTS)));
}

function show(part, verdict) {
  for (const button of part.querySelectorAll("[data-do=accept], [data-do=reject]")) {
    button.setAttribute("aria-pressed", String(button.dataset.do === verdict));
  }
}

function recall() {
  const known = verdicts();
  for (const part of document.querySelectorAll("[data-snippet]")) {
    const verdict = known.get(memory(part.dataset.snippet));
    if (verdict) show(part, verdict);
  }
}

addEventListener("storage", (event) => { if (event.key === VERDICTS) recall(); });
addEventListener("pageshow", recall);
recall();

export async function judge(part, verdict) {
  const button = part.querySelector(`[data-do=${verdict}]`);
  if (!searchId || !button || button.getAttribute("aria-pressed") === "true") return;
  const before = part.querySelector("[aria-pressed=true]")?.dataset.do ?? "";
  show(part, verdict);
  // At once: the next page may be there before the answer.
  memorise(part.dataset.snippet, verdict);
  button.classList.add("sending");
  try {
    await tell(part.dataset.snippet, verdict);
    if (!toast.classList.contains("bad")) say(verdict === "accept" ? "Accepted." : "Rejected.");
  } catch {
    if (button.getAttribute("aria-pressed") === "true") {
      show(part, before);
      memorise(part.dataset.snippet, before);
    }
  } finally {
    button.classList.remove("sending");
  }
}
