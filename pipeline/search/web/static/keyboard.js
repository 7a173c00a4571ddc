// The keyboard. Single keys can be switched off (WCAG 2.1.4).

import { copyCode, copyLink } from "./copying.js";
import { box, help, keep, kept, whole } from "./page.js";
import { judge } from "./verdicts.js";

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
