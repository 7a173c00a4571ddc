// What the person says: sent in order per snippet, and again until it is taken or refused.

import { say, searchId, toast, user } from "./page.js";

const SLOWEST_RETRY_MS = 30_000;
const RETRIED = new Set([408, 425, 429, 500, 502, 503, 504]);

const lines = new Map();
let unsent = 0;

export function tell(snippetId, judgement, extra = {}) {
  const body = { search_id: searchId, snippet_id: Number(snippetId), judgement, ...extra };
  if (user) body.user = user;
  unsent += 1;
  const sent = (lines.get(snippetId) ?? Promise.resolve())
    .then(() => send(body))
    .finally(() => { unsent -= 1; });
  lines.set(snippetId, sent.catch(() => {}));
  return sent;
}

async function send(body) {
  for (let tries = 1; ; tries += 1) {
    let answer = null;
    try {
      answer = await fetch("/feedback", {
        method: "POST",
        headers: { "Content-Type": "application/json", Accept: "application/json" },
        body: JSON.stringify(body),
        keepalive: true,
        signal: AbortSignal.timeout(15_000),
      });
    } catch { /* the service is away: said below */ }
    if (answer?.ok) {
      if (tries > 1) say("Saved.");
      return;
    }
    const reason = await sentence(answer);
    if (answer !== null && !RETRIED.has(answer.status)) {
      say(`Not saved: ${reason}`, true);
      throw new Error(reason);
    }
    const pause = Math.min(SLOWEST_RETRY_MS, 1000 * 2 ** (tries - 1));
    say(`Not saved yet: ${reason} Trying again in ${Math.round(pause / 1000)} s.`, true);
    await new Promise((resolve) => { setTimeout(resolve, pause); });
  }
}

async function sentence(answer) {
  if (answer === null) return "the service does not answer.";
  if (answer.status === 401) return "your session has ended; reload the page to log in.";
  try {
    const said = await answer.json();
    return [said.error, said.hint].filter(Boolean).join(" ") || `the service said ${answer.status}.`;
  } catch {
    return `the service said ${answer.status}.`;
  }
}

addEventListener("beforeunload", (event) => { if (unsent > 0 && toast.classList.contains("bad")) event.preventDefault(); });
