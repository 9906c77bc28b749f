// Live parts, buttons and charts. Everything a page needs without scripts is already in its HTML.
"use strict";

// A page about a job: refresh its live part when an event arrives, at most twice a second.
function followJob() {
  const live = document.getElementById("live");
  if (!live || "ended" in live.dataset) return;
  const job = live.dataset.job;
  const part = live.dataset.part ?? `/jobs/${job}/live`;
  const stream = new EventSource(`/v1/jobs/${job}/events?after=${live.dataset.after}`);
  let waiting = false;
  const refresh = () => {
    if (waiting) return;
    waiting = true;
    setTimeout(() => {
      waiting = false;
      htmx.ajax("GET", part, { target: "#live", swap: "innerHTML" });
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
    if (axis.title) axis.title.font = { ...axis.title.font, color: colour("--muted") };
  }
  for (const axis of [layout.polar?.radialaxis, layout.polar?.angularaxis]) {
    if (axis) Object.assign(axis, { color: colour("--ink"), gridcolor: colour("--line") });
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

// A request that was refused: what the api said, and each fault with the place that it points at.
class Refused extends Error {
  constructor(answer) {
    const faults = answer.errors || [];
    super([answer.title, answer.detail, ...faults.map((fault) => `${fault.pointer}: ${fault.detail}`)].filter(Boolean).join("\n"));
    this.faults = faults;
  }
}

async function send(path, body, method = "POST") {
  const response = await fetch(path, body instanceof FormData || body === null
    ? { method, body }
    : { method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  const answer = response.status === 204 ? null : await response.json();
  if (response.ok) return answer;
  throw new Refused(answer);
}

function tell(place, text, kind) {
  const paragraph = document.createElement("p");
  paragraph.className = `${kind} text`;
  paragraph.textContent = text;
  place.replaceChildren(paragraph);
}

// Buttons that post, or delete: cancel, retry, stop. Then the page is shown anew, or the one that `data-then` names.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-post]");
  if (!button || (button.dataset.confirm && !confirm(button.dataset.confirm))) return;
  button.disabled = true;
  try {
    const method = button.dataset.method ?? "POST";
    await send(button.dataset.post, method === "POST" ? {} : null, method);
    if (button.dataset.then) location.href = button.dataset.then;
    else location.reload();
  } catch (error) {
    alert(error.message);
    button.disabled = false;
  }
});

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

document.addEventListener("DOMContentLoaded", () => { followJob(); drawCharts(document); });
// A part that came later, in place of one that said so.
document.addEventListener("htmx:load", (event) => drawCharts(event.detail.elt));
