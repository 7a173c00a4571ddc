// Feedback, copying, dwell time and the keyboard. Searching and reading work without it.

const SLOWEST_RETRY_MS = 30_000;
const RETRIED = new Set([408, 425, 429, 500, 502, 503, 504]);
const LEAST_DWELL_MS = 500;
const SAID_MS = 4_000;
// Whoever copies a word may want to look it up; whoever copies this much wants the code.
const LEAST_COPIED_CHARACTERS = 40;
const KEPT_VERDICTS = 300;
// A server refuses addresses of 64 KiB, with an answer that is no page; filters need some of it.
const MOST_ADDRESS_BYTES = 60_000;

const page = document.querySelector("main");
const toast = document.getElementById("toast");
const help = document.getElementById("help");
const box = document.getElementById("q");
const searchId = page.dataset.search || null;
const user = document.body.dataset.user || null;

document.documentElement.classList.add("js");

// What the browser keeps for this page. One that keeps nothing for sites throws at the very name of it.

function kept(storage, key) {
  try {
    return window[storage].getItem(key);
  } catch {
    return null;
  }
}

function keep(storage, key, value) {
  try {
    window[storage].setItem(key, value);
  } catch { /* then it holds for this page only */ }
}

// What is said to the person.

let toastTimer = 0;

function say(text, bad = false) {
  clearTimeout(toastTimer);
  toast.textContent = text;
  toast.classList.toggle("bad", bad);
  if (!bad) toastTimer = setTimeout(() => { toast.textContent = ""; }, SAID_MS);
}

// What the person says: sent in order per snippet, and again until it is taken or refused.

const lines = new Map();
let unsent = 0;

function tell(snippetId, judgement, extra = {}) {
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

// A verdict is shown on this page, in other tabs with the same search, and when the person comes back to it.
// Of several people who share a browser, each sees their own.

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

async function judge(part, verdict) {
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

// Copying.

async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Over plain http from another machine there is no clipboard but the old one.
    const place = document.activeElement; // where the person is among the results
    const sheet = document.createElement("textarea");
    sheet.value = text;
    sheet.className = "unseen";
    document.body.append(sheet);
    sheet.focus({ preventScroll: true });
    sheet.select();
    const done = document.execCommand("copy");
    sheet.remove();
    place?.focus({ preventScroll: true });
    if (!done) throw new Error("the browser refused");
  }
}

function codeOf(part) {
  return [...part.querySelectorAll(".ln")].map((line) => line.textContent).join("\n") + "\n";
}

async function copyCode(part) {
  const button = part.querySelector("[data-do=copy]");
  try {
    await toClipboard(codeOf(part));
  } catch (error) {
    say(`Not copied: ${error.message}. Select the code instead.`, true);
    return;
  }
  button.classList.add("done");
  say("Copied.");
  setTimeout(() => button.classList.remove("done"), 2000);
  if (searchId) tell(part.dataset.snippet, "copy").catch(() => {});
}

async function copyLink() {
  const link = document.querySelector("link[rel=canonical]");
  try {
    await toClipboard(link ? link.href : location.href);
    say("Link copied.");
  } catch (error) {
    say(`Not copied: ${error.message}. The address is in the browser's bar.`, true);
  }
}

document.addEventListener("copy", () => {
  const selection = getSelection();
  const start = selection.anchorNode?.parentElement?.closest(".code")?.closest("[data-snippet]");
  if (searchId && start && selection.toString().length >= LEAST_COPIED_CHARACTERS) {
    tell(start.dataset.snippet, "copy").catch(() => {});
  }
});

// Dwell: how long a snippet that was opened has been on the screen, sent when it is left.

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
addEventListener("pageshow", (event) => {
  recall();
  // The choices above results are those that led to them.
  if (event.persisted) document.getElementById("search")?.reset();
  reading().forEach((dwell) => dwell.start());
});

for (const rest of document.querySelectorAll(".rest")) {
  rest.addEventListener("toggle", () => {
    const { snippet } = rest.closest("[data-snippet]").dataset;
    if (rest.open) opened(snippet);
    else dwells.get(snippet)?.leave();
  });
}
const whole = document.querySelector("[data-snippet][data-whole]");
if (whole) {
  const begin = () => opened(whole.dataset.snippet);
  if (document.prerendering) document.addEventListener("prerenderingchange", begin, { once: true });
  else begin();
} else if (searchId) {
  keep("sessionStorage", "last search", searchId);
}
recall();

// The mouse.

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do]");
  if (button) act(button.dataset.do, button.closest("[data-snippet]"), event);
  for (const menu of document.querySelectorAll(".menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

function act(what, part, event) {
  if (what === "accept" || what === "reject") {
    event.preventDefault(); // without this script the button sends its form
    judge(part, what);
  } else if (what === "copy") copyCode(part);
  else if (what === "link") copyLink();
  else if (what === "help") help.showModal();
  else if (what === "back" && kept("sessionStorage", "last search") === searchId && history.length > 1) {
    event.preventDefault();
    history.back();
  }
}

// Too long a query is said before it is sent, and never cut.

function tooLong(query) {
  const length = [...query].length;
  const most = Number(box.dataset.most);
  if (length > most) {
    return `The query has ${length.toLocaleString("en")} characters; at most ${most.toLocaleString("en")} are taken.`;
  }
  const bytes = new URLSearchParams({ q: query }).toString().length;
  if (bytes <= MOST_ADDRESS_BYTES) return "";
  return `Written as an address, the query takes ${bytes.toLocaleString("en")} bytes; at most `
    + `${MOST_ADDRESS_BYTES.toLocaleString("en")} arrive.`;
}

box?.addEventListener("input", () => {
  const problem = tooLong(box.value);
  box.setCustomValidity(problem && `${problem} Keep the part that matters.`);
});

// A filter takes effect when its menu closes; fields left empty stay out of the address.

for (const menu of document.querySelectorAll(".menu")) {
  let changed = false;
  menu.addEventListener("change", () => { changed = true; });
  menu.addEventListener("toggle", () => {
    const form = menu.closest("form");
    if (!menu.open && changed && form.elements.q.value.trim()) form.requestSubmit();
  });
}
// A choice by the mouse is made. By the arrow keys every value on the way is a change, and Enter makes it.
const size = document.querySelector("#search select");
let byKey = false;
size?.addEventListener("pointerdown", () => { byKey = false; });
size?.addEventListener("keydown", (event) => {
  byKey = true;
  if (event.key === "Enter") {
    event.preventDefault();
    size.form.requestSubmit();
  }
});
size?.addEventListener("change", () => { if (!byKey && box.value.trim()) size.form.requestSubmit(); });
document.getElementById("search")?.addEventListener("formdata", (event) => {
  if (!event.formData.get("path")) event.formData.delete("path");
  if (event.formData.get("k") === event.target.dataset.k) event.formData.delete("k");
});

// The keyboard. Single keys can be switched off (WCAG 2.1.4).

const keysBox = document.getElementById("keys");
keysBox.checked = kept("localStorage", "single keys") !== "off";
keysBox.addEventListener("change", () => keep("localStorage", "single keys", keysBox.checked ? "on" : "off"));

const results = [...document.querySelectorAll(".result")];

function current() {
  const part = document.activeElement?.closest("[data-snippet]");
  return part ?? (whole || null);
}

function move(step) {
  const at = results.indexOf(document.activeElement?.closest(".result"));
  const next = results[at < 0 ? (step > 0 ? 0 : results.length - 1) : at + step];
  if (next) {
    next.focus({ preventScroll: true });
    // The head of a result says what it is: it must be seen, however long its code.
    const { top, bottom } = next.getBoundingClientRect();
    if (top < 0 || bottom > innerHeight) next.scrollIntoView({ block: "start" });
  } else if (step < 0 && box) {
    box.focus();
  }
}

const keys = {
  "/": () => {
    if (!box) location.assign("/");
    box?.focus();
    box?.select();
  },
  j: () => move(1),
  k: () => move(-1),
  ArrowDown: () => move(1),
  ArrowUp: () => move(-1),
  o: () => current()?.querySelector("h2 a")?.click(),
  e: () => {
    const part = current();
    const rest = part?.querySelector(".rest");
    if (!rest) return;
    if (rest.contains(document.activeElement)) part.focus({ preventScroll: true }); // it may be gone in a moment
    rest.open = !rest.open;
  },
  a: () => current() && judge(current(), "accept"),
  r: () => current() && judge(current(), "reject"),
  c: () => current() && copyCode(current()),
  y: copyLink,
  "?": () => help.showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (help.open) {
    // Left to itself, the browser closes it some time after the key, and the keys in between would be lost.
    if (event.key === "Escape" || event.key === "?") {
      event.preventDefault();
      help.close();
    }
    return;
  }
  const menu = document.querySelector(".menu[open]");
  if (event.key === "Escape" && menu) {
    menu.open = false;
    menu.querySelector("summary").focus();
    return;
  }
  if (event.target === box) {
    if (event.key === "Escape") box.blur();
    if (event.key === "ArrowDown" && results.length) { event.preventDefault(); move(1); }
    return;
  }
  // Until the browser next draws, what had the focus in the help keeps it although the help is closed.
  if (event.target.closest("input, select, textarea, .panel, [role=region]") && !help.contains(event.target)) return;
  if (event.key === "Enter" && event.target.matches(".result")) {
    event.preventDefault();
    keys.o();
    return;
  }
  if (event.key.startsWith("Arrow") && (!results.length || event.target.closest(".menu"))) return;
  if (!event.key.startsWith("Arrow") && !keysBox.checked) return;
  if (Object.hasOwn(keys, event.key)) {
    event.preventDefault();
    keys[event.key]();
  }
});
