// The form that puts a model under a name: on the pages of deployments and of a model.
"use strict";

// What POST /v1/deployments takes.
function deploymentOf(form) {
  const fields = form.elements;
  const [kind, name] = fields.target.value.split(/:(.*)/s);
  const chosen = fields.target.selectedOptions?.[0];
  if (kind === "provider") return { name: fields.name.value, target: { provider: name, model: chosen.dataset.model ?? fields.model.value } };
  const options = { server: fields.server.value };
  if (fields.maximum_total_tokens.value) options.maximum_total_tokens = Number(fields.maximum_total_tokens.value);
  return { name: fields.name.value, target: { registry: name }, options };
}

function deployForm(form) {
  const fields = form.elements;
  const fault = form.querySelector("[role=alert]");

  function fit() {
    const ofProvider = fields.target.value.startsWith("provider:");
    const any = ofProvider && !("model" in fields.target.selectedOptions[0].dataset);
    for (const part of form.querySelectorAll("[data-server]")) part.hidden = ofProvider;
    if (!fields.model) return;
    form.querySelector("[data-any]").hidden = !any;
    fields.model.required = any;
  }

  form.addEventListener("change", fit);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    fault.hidden = true;
    button.disabled = true;
    try {
      location.href = `/deployments/${(await send("/v1/deployments", deploymentOf(form))).id}`;
    } catch (error) {
      fault.textContent = error.message;
      fault.hidden = false;
      button.disabled = false;
    }
  });
  fit();
}

document.addEventListener("DOMContentLoaded", () => { for (const form of document.querySelectorAll("[data-deploy]")) deployForm(form); });
