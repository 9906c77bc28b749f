// The form of a profile: who prefers what, and the system message that it becomes.
"use strict";

function profileForm() {
  const form = document.getElementById("profile");
  const outcome = document.getElementById("outcome");
  const preview = document.getElementById("preview");
  const { name, taxonomy } = form.dataset;
  const chooser = facetChooser(form.querySelector(".facet-chooser"), JSON.parse(form.dataset.preferences), () => {
    preview.hidden = true;
    outcome.replaceChildren();
  });

  async function attempt(action) {
    outcome.replaceChildren();
    try {
      await action(chooser.read());
    } catch (error) {
      tell(outcome, error.message, "error");
    }
  }

  document.getElementById("show-preview").addEventListener("click", () => attempt(async (preferences) => {
    preview.querySelector(".text").textContent = (await send("/v1/profiles/preview", { preferences, taxonomy })).system;
    preview.hidden = false;
  }));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(async (preferences) => {
      const body = { preferences, taxonomy, note: form.elements.note.value };
      const saved = name ? await send(`/v1/profiles/${name}`, body, "PUT") : await send("/v1/profiles", { ...body, name: form.elements.name.value });
      location.href = `/profiles/${saved.name}`;
    });
  });
}

document.addEventListener("DOMContentLoaded", profileForm);
