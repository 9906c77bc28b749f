// Benches: the form that adds a file, and the review of one bench, item by item.
"use strict";

const REVIEWER_KEY = "multifacet-reviewer";

function addBench(form) {
  const fields = form.elements;
  const said = form.querySelector("[role=status]");
  const fault = form.querySelector("[role=alert]");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    fault.replaceChildren();
    button.disabled = true;
    said.textContent = "reading the file";
    try {
      const body = new FormData();
      body.append("file", fields.file.files[0]);
      const file = await send("/v1/files", body);
      const name = fields.name.value.trim();
      location.href = `/benches/${(await send("/v1/benches", name ? { file: file.id, name } : { file: file.id })).id}`;
    } catch (error) {
      tell(fault, error.message, "error");
      said.textContent = "";
      button.disabled = false;
    }
  });
}

function reviewBench(place) {
  const path = `/benches/${place.dataset.bench}`;
  const name = document.getElementById("reviewer");
  const show = document.getElementById("show");
  const asked = new URLSearchParams(location.search);
  let busy = false;
  name.value = localStorage.getItem(REVIEWER_KEY) ?? "";
  if ([...show.options].some((option) => option.value === asked.get("show"))) show.value = asked.get("show");

  const shown = () => place.querySelector("[data-item]");

  // The part for an item, or for the one next to it; the address then names what is shown.
  async function load(item, step) {
    const query = new URLSearchParams({ reviewer: name.value.trim(), show: show.value });
    if (item) query.set("item", item);
    if (step) query.set("step", step);
    await htmx.ajax("GET", `${path}/review?${query}`, { target: place, swap: "innerHTML" });
    const here = new URLSearchParams({ show: show.value });
    if (shown()) here.set("item", shown().dataset.item);
    history.replaceState(null, "", `${path}?${here}`);
  }

  async function once(work) {
    if (busy) return;
    busy = true;
    try {
      await work();
    } finally {
      busy = false;
    }
  }

  function decide(decision) {
    const item = shown();
    if (!item || !("writable" in item.dataset)) return;
    if (!name.value.trim()) {
      name.focus();
      return;
    }
    const reason = item.querySelector("[name=reason]").value.trim();
    once(async () => {
      try {
        const body = { decision, reason, reviewer: name.value.trim() };
        await send(`/v1${path}/items/${encodeURIComponent(item.dataset.item)}/review`, body, "PUT");
      } catch (error) {
        tell(item.querySelector("[role=alert]"), error.message, "error");
        return;
      }
      await load(item.dataset.item, "next");
      scrollTo({ top: 0 });
    });
  }

  function step(direction) {
    if (shown()) once(() => load(shown().dataset.item, direction));
  }

  place.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.dataset.decision) decide(button.dataset.decision);
    if (button?.dataset.step) step(button.dataset.step);
  });
  // Enter in the reason decides nothing: which of the two it would be is anybody's guess.
  place.addEventListener("submit", (event) => event.preventDefault());
  name.addEventListener("change", () => {
    localStorage.setItem(REVIEWER_KEY, name.value.trim());
    once(() => load(shown()?.dataset.item));
  });
  show.addEventListener("change", () => once(() => load()));
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input, textarea, select")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const keys = {
      k: () => decide("keep"),
      d: () => decide("drop"),
      n: () => step("next"),
      p: () => step("previous"),
      w: () => place.querySelector("[name=reason]")?.focus(),
    };
    if (!Object.hasOwn(keys, event.key)) return;
    event.preventDefault(); // a field that gets the focus now must not get the letter
    keys[event.key]();
  });
  for (const type of ["htmx:responseError", "htmx:sendError"]) {
    document.addEventListener(type, () => tell(place, "The review cannot be loaded. Load the page again in a moment.", "error"));
  }
  once(() => load(asked.get("item")));
}

document.addEventListener("DOMContentLoaded", () => {
  const form = document.getElementById("add-bench");
  const place = document.getElementById("review");
  if (form) addBench(form);
  if (place) reviewBench(place);
});
