// What every part of the page's script shares: its places, what the browser keeps for it, and what is said.

const SAID_MS = 4_000;

export const toast = document.getElementById("toast");
export const help = document.getElementById("help");
export const box = document.getElementById("q");
export const searchId = document.querySelector("main").dataset.search || null;
export const user = document.body.dataset.user || null;
// The snippet of a page about one that was reached from a search; null among results.
export const whole = document.querySelector("[data-snippet][data-whole]");

// What the browser keeps for this page. One that keeps nothing for sites throws at the very name of it.

export function kept(storage, key) {
  try {
    return window[storage].getItem(key);
  } catch {
    return null;
  }
}

export function keep(storage, key, value) {
  try {
    window[storage].setItem(key, value);
  } catch { /* then it holds for this page only */ }
}

let toastTimer = 0;

export function say(text, bad = false) {
  clearTimeout(toastTimer);
  toast.textContent = text;
  toast.classList.toggle("bad", bad);
  if (!bad) toastTimer = setTimeout(() => { toast.textContent = ""; }, SAID_MS);
}
