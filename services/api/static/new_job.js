// The form of a new job: reads it into a job spec, estimates and submits it, and shows each fault at its place.
"use strict";

// The trainings of a new job: each a preset, edited as YAML. `read` gives them as the api takes them.
function trainingList() {
  const list = document.getElementById("training-list");
  const add = document.getElementById("add-training");
  const most = Number(document.getElementById("trainings").dataset.most);
  const chosen = () => [...list.children].filter((entry) => entry.querySelector("[data-preset]").value);
  const text = (entry) => entry.querySelector("textarea").value;
  const names = (entries) => entries.map((entry) => (text(entry).match(/^name: *([a-z][a-z0-9-]*)/m) || [])[1]).filter(Boolean);

  // A preset with what it leaves to its user: a name of its own, and the training before as its base.
  function fill(entry, option) {
    const before = names(chosen().filter((other) => other !== entry && other.compareDocumentPosition(entry) & Node.DOCUMENT_POSITION_FOLLOWING));
    const taken = names(chosen().filter((other) => other !== entry));
    let name = option.dataset.method;
    for (let number = 2; taken.includes(name); number += 1) name = `${option.dataset.method}-${number}`;
    const base = "base" in option.dataset || !before.length ? "" : `base: {stage: ${before.at(-1)}}\n`;
    entry.querySelector("textarea").value = `${option.value.match(/^(#.*\n)*/)[0]}name: ${name}\n${base}${option.value.replace(/^(#.*\n)*/, "")}`;
  }

  function clear() {
    for (const entry of list.children) {
      entry.querySelector("[role=alert]").hidden = true;
      entry.querySelector("textarea").removeAttribute("aria-invalid");
    }
  }

  // Shows each fault at the training it points at; says whether one of them was shown.
  function show(faults) {
    const entries = chosen();
    let shown = false;
    for (const fault of faults) {
      const found = /^\/train\/(\d+)(.*)$/.exec(fault.pointer);
      const entry = found && entries[Number(found[1])];
      if (!entry) continue;
      const place = entry.querySelector("[role=alert]");
      const line = `${found[2] ? `${found[2].slice(1).replaceAll("/", ".")}: ` : ""}${fault.detail}`;
      place.textContent = place.hidden ? line : `${place.textContent}\n${line}`;
      place.hidden = false;
      entry.querySelector("textarea").setAttribute("aria-invalid", "true");
      if (!shown) entry.querySelector("textarea").focus();
      shown = true;
    }
    return shown;
  }

  add.addEventListener("click", () => {
    list.append(document.getElementById("training").content.cloneNode(true));
    list.lastElementChild.querySelector("select").focus();
    add.disabled = list.children.length >= most;
  });
  list.addEventListener("change", (event) => {
    const choice = event.target.closest("[data-preset]");
    if (!choice) return;
    const entry = choice.closest(".training-entry");
    entry.querySelector("[data-text]").hidden = !choice.value;
    entry.querySelector("[role=alert]").hidden = true;
    if (choice.value) fill(entry, choice.selectedOptions[0]);
  });
  list.addEventListener("click", (event) => {
    if (!event.target.closest("[data-remove]")) return;
    event.target.closest(".training-entry").remove();
    add.disabled = false;
    add.focus();
  });
  return {
    clear,
    show,
    read: async () => (chosen().length ? (await send("/jobs/new/trainings", { texts: chosen().map(text) })).train : []),
  };
}

function newJobForm() {
  const form = document.getElementById("new-job");
  const outcome = document.getElementById("outcome");
  const trainings = trainingList();
  let uploaded = null;

  async function spec() {
    const data = new FormData(form);
    const train = await trainings.read();
    if (data.get("place") === "none") {
      if (!train.length) throw new Error("There is nothing to do: choose instructions, or add a training.");
      if (data.get("budget")) throw new Error("A budget pays a teacher, and this job only trains: leave it empty.");
      return { name: data.get("name"), train };
    }
    const [provider, ...model] = data.get("teacher").split("/");
    const source = {};
    if (data.get("place") === "bundled") {
      source.bundled = "demo";
    } else {
      const file = data.get("file");
      if (!file || !file.name) throw new Error("Choose a file first.");
      if (!uploaded || uploaded.chosen !== file.name + file.size + file.lastModified) {
        const body = new FormData();
        body.append("file", file);
        uploaded = { chosen: file.name + file.size + file.lastModified, id: (await send("/v1/files", body)).id };
      }
      source.file = uploaded.id;
      const mapping = data.get("mapping");
      source.mapping = mapping === "template" ? { instruction: data.get("template") } : mapping;
    }
    const result = {
      name: data.get("name"),
      sources: [source],
      teacher: { provider, model: model.join("/") },
      augment: { sets_per_instruction: Number(data.get("sets")) },
      assemble: { pairing: data.get("pairing") },
    };
    if (train.length) result.train = train;
    if (data.get("budget")) result.budget_usd = Number(data.get("budget"));
    return result;
  }

  async function run(action) {
    tell(outcome, "Working …", "notice");
    trainings.clear();
    try {
      await action(await spec());
    } catch (error) {
      if (error instanceof Refused && trainings.show(error.faults)) tell(outcome, "A training cannot be taken as it is: see above.", "error");
      else tell(outcome, error.message, "error");
    }
  }

  document.getElementById("estimate").addEventListener("click", () => run(async (body) => {
    const found = await send("/v1/jobs/estimate", body);
    const cost = found.cost_micro_usd === null ? "an unknown amount (no price is configured)" : `$${(found.cost_micro_usd / 1e6).toFixed(4)}`;
    tell(outcome, `About ${found.calls.toLocaleString()} calls, costing ${cost}.`, "notice");
  }));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    run(async (body) => { location.href = `/jobs/${(await send("/v1/jobs", body)).id}`; });
  });
}

document.addEventListener("DOMContentLoaded", newJobForm);
