// Copying, and that code was copied.

import { say, searchId } from "./page.js";
import { tell } from "./telling.js";

// Whoever copies a word may want to look it up; whoever copies this much wants the code.
const LEAST_COPIED_CHARACTERS = 40;

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

export async function copyCode(part) {
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

export async function copyLink() {
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
