// The blind page: pairs come one by one from the REST API, which never says whose an answer is.
"use strict";

const NAME_KEPT = "multifacet-annotator";
const CHOICE_OF_KEY = { 1: "left", 2: "both_good", 3: "both_bad", 4: "right" };

function annotate() {
  const page = document.getElementById("annotation");
  if (!page) return;
  const place = (id) => document.getElementById(id);
  const task = `/v1/annotations/${page.dataset.task}`;
  let annotator = localStorage.getItem(NAME_KEPT) || "";
  let current = null;
  let shownAt = 0;
  let busy = false;

  function show(item) {
    current = item.number;
    place("who").hidden = true;
    place("pair").hidden = current === null;
    place("finished").hidden = current !== null;
    place("undo").hidden = item.done === 0;
    place("rename").hidden = false;
    place("progress").textContent = `${annotator}: ${item.done} of ${item.total} judged`;
    if (current === null) {
      place("count").textContent = `You have judged ${item.done} of ${item.total} pairs.`;
      place("finished").focus();
      return;
    }
    place("instruction").textContent = item.instruction;
    place("wants").hidden = item.preferences.length === 0;
    place("preferences").replaceChildren(...item.preferences.map((wish) => {
      const entry = document.createElement("li");
      entry.textContent = wish;
      return entry;
    }));
    for (const side of ["left", "right"]) {
      place(side).textContent = item[side];
      place(side).scrollTop = 0;
    }
    // What is read first comes first, for eyes and for screen readers: the next pair begins at its instruction.
    place("instruction-title").focus({ preventScroll: true });
    window.scrollTo(0, 0);
    shownAt = performance.now();
  }

  async function attempt(action) {
    if (busy) return;
    busy = true;
    page.setAttribute("aria-busy", "true");
    place("outcome").replaceChildren();
    try {
      show(await action());
    } catch (error) {
      tell(place("outcome"), `${error.message}\nNothing was lost: try again.`, "error");
    }
    page.removeAttribute("aria-busy");
    busy = false;
  }

  const asked = () => `annotator=${encodeURIComponent(annotator)}`;
  const next = () => send(`${task}/next?${asked()}`, null, "GET");
  const judge = (choice) => attempt(() => send(`${task}/annotations`, {
    annotator, choice, number: current, seconds: Math.min(86400, (performance.now() - shownAt) / 1000),
  }));
  const undo = () => attempt(async () => {
    const { number } = await send(`${task}/annotations/last?${asked()}`, null, "DELETE");
    return number === null ? next() : send(`${task}/items/${number}?${asked()}`, null, "GET");
  });

  function askName() {
    place("pair").hidden = place("finished").hidden = place("undo").hidden = place("rename").hidden = true;
    place("progress").textContent = "";
    place("who").hidden = false;
    place("who").elements.annotator.focus();
  }

  place("who").addEventListener("submit", (event) => {
    event.preventDefault();
    annotator = place("who").elements.annotator.value.trim();
    if (!annotator) return;
    localStorage.setItem(NAME_KEPT, annotator);
    attempt(next);
  });
  for (const button of page.querySelectorAll("[data-choice]")) {
    // The second click of a double click would judge a pair that nobody has seen; so would a key that is held down.
    button.addEventListener("click", (event) => { if (event.detail < 2) judge(button.dataset.choice); });
  }
  place("undo").addEventListener("click", undo);
  place("rename").addEventListener("click", askName);
  document.addEventListener("keydown", (event) => {
    if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
    if (!place("pair").hidden && CHOICE_OF_KEY[event.key]) judge(CHOICE_OF_KEY[event.key]);
    if (event.key === "u" && !place("undo").hidden) undo();
  });
  if (annotator) attempt(next);
  else askName();
}

document.addEventListener("DOMContentLoaded", annotate);
