// Feedback, copying, dwell time and the keyboard. Searching, reading and judging work without any of it.

import "./asking.js";
import "./keyboard.js";
import "./reading.js";

import { copyCode, copyLink } from "./copying.js";
import { help, kept, searchId } from "./page.js";
import { judge } from "./verdicts.js";

document.documentElement.classList.add("js");

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
