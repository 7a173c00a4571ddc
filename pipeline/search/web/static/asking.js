// The form. Too long a query is said before it is sent, and never cut.

import { box } from "./page.js";

// A server refuses addresses of 64 KiB, with an answer that is no page; filters need some of it.
const MOST_ADDRESS_BYTES = 60_000;

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
// Who comes back finds the choices that led to the results beneath them.
addEventListener("pageshow", (event) => { if (event.persisted) document.getElementById("search")?.reset(); });
