// The form that makes an annotation task: the candidates offered are those of the chosen job.
"use strict";

function annotationForm() {
  const form = document.getElementById("annotation-task");
  if (!form) return;
  const outcome = document.getElementById("outcome");
  const jobs = JSON.parse(form.dataset.jobs);
  const { job, first, second } = form.elements;

  function offer() {
    const { answers } = jobs.find((one) => one.id === job.value);
    for (const [choice, chosen] of [[first, 0], [second, 1]]) {
      choice.replaceChildren(...answers.map((name, place) => new Option(name, name, place === chosen, place === chosen)));
    }
  }

  job.addEventListener("change", offer);
  offer();
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    outcome.replaceChildren();
    const body = {
      name: form.elements.name.value,
      job: job.value,
      first: first.value,
      second: second.value,
      shows_preferences: form.elements.shows_preferences.checked,
    };
    if (form.elements.limit.value) body.limit = Number(form.elements.limit.value);
    try {
      location.href = `/annotations/${(await send("/v1/annotations", body)).id}`;
    } catch (error) {
      tell(outcome, error.message, "error");
    }
  });
}

document.addEventListener("DOMContentLoaded", annotationForm);
