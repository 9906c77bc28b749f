// Live parts, buttons and charts. Everything a page needs without scripts is already in its HTML.
"use strict";

// A job's page: refresh its live part when an event arrives, at most twice a second.
function followJob() {
  const live = document.getElementById("live");
  if (!live || "ended" in live.dataset) return;
  const job = live.dataset.job;
  const stream = new EventSource(`/v1/jobs/${job}/events?after=${live.dataset.after}`);
  let waiting = false;
  const refresh = () => {
    if (waiting) return;
    waiting = true;
    setTimeout(() => {
      waiting = false;
      htmx.ajax("GET", `/jobs/${job}/live`, { target: "#live", swap: "innerHTML" });
    }, 500);
  };
  for (const type of ["job.state", "stage.state", "stage.progress", "step.state", "job.cost", "train.metrics", "note"]) {
    stream.addEventListener(type, refresh);
  }
  stream.onmessage = refresh;
  stream.addEventListener("end", () => { stream.close(); refresh(); });
}

// Texts and lines of a figure take the colours of the page, which follow the light or dark scheme of the system.
function inColoursOfPage(layout) {
  const page = getComputedStyle(document.documentElement);
  const colour = (name) => page.getPropertyValue(name).trim();
  layout.font.color = colour("--ink");
  Object.assign(layout.hoverlabel, { bgcolor: colour("--paper"), bordercolor: colour("--edge") });
  layout.hoverlabel.font.color = colour("--ink");
  for (const axis of [layout.xaxis, layout.yaxis]) {
    if (!axis) continue;
    axis.gridcolor = colour("--line");
    if (axis.title) axis.title.font.color = colour("--muted");
  }
}

function drawCharts(part) {
  for (const place of part.querySelectorAll("[data-figure]")) {
    const figure = JSON.parse(place.dataset.figure);
    delete place.dataset.figure;
    inColoursOfPage(figure.layout);
    place.style.height = `${figure.layout.height}px`; // on a resize Plotly takes the height of the element
    Plotly.newPlot(place, figure.data, figure.layout, figure.config);
  }
}

async function send(path, body) {
  const response = await fetch(path, body instanceof FormData
    ? { method: "POST", body }
    : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  const answer = await response.json();
  if (response.ok) return answer;
  const places = (answer.errors || []).map((error) => `${error.pointer}: ${error.detail}`);
  throw new Error([answer.title, answer.detail, ...places].filter(Boolean).join("\n"));
}

function tell(place, text, kind) {
  const paragraph = document.createElement("p");
  paragraph.className = `${kind} text`;
  paragraph.textContent = text;
  place.replaceChildren(paragraph);
}

// Buttons that post: cancel, retry.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-post]");
  if (!button || (button.dataset.confirm && !confirm(button.dataset.confirm))) return;
  button.disabled = true;
  try {
    await send(button.dataset.post, {});
    location.reload();
  } catch (error) {
    alert(error.message);
    button.disabled = false;
  }
});

function newJobForm() {
  const form = document.getElementById("new-job");
  if (!form) return;
  const outcome = document.getElementById("outcome");
  let uploaded = null;

  async function spec() {
    const data = new FormData(form);
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
    if (data.get("budget")) result.budget_usd = Number(data.get("budget"));
    return result;
  }

  async function run(action) {
    tell(outcome, "Working …", "notice");
    try {
      await action(await spec());
    } catch (error) {
      tell(outcome, error.message, "error");
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

// Choices that show their result at once; the data set's split travels with it.
document.addEventListener("change", (event) => {
  const choice = event.target.closest("[data-submit]");
  if (!choice) return;
  const form = choice.form;
  if (choice.name === "dataset") {
    form.elements.split.value = choice.selectedOptions[0].dataset.split;
    for (const name of ["dimension", "subdimension", "reason"]) if (form.elements[name]) form.elements[name].value = "";
  }
  if (choice.name === "dimension" && form.elements.subdimension) form.elements.subdimension.value = "";
  form.requestSubmit();
});

document.addEventListener("DOMContentLoaded", () => { followJob(); drawCharts(document); newJobForm(); });
// A part that came later, in place of one that said so.
document.addEventListener("htmx:load", (event) => drawCharts(event.detail.elt));
