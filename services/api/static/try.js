// /try: columns of a model and a person each, that answer one instruction at the same time. Answers are shown as plain text.
// What the form holds lies in the address after #, which browsers send to nobody.
"use strict";

const STATES = { waiting: "queued", streaming: "running", done: "succeeded", stopped: "cancelled", failed: "failed" };
const ENDS = { length: "cut off at the most tokens", content_filter: "withheld by a filter" };

const form = document.getElementById("try");
const fields = form.elements;
const columnList = document.getElementById("columns");
const turnList = document.getElementById("turns");
const mostColumns = Number(form.dataset.most);
const columns = [];

const announce = (text) => { document.getElementById("announce").textContent = text; };
const numberOf = (column) => columns.indexOf(column) + 1;

// --- what is asked -------------------------------------------------------------------------------------------------------

function turns() {
  return [...turnList.children].map((turn) => [...turn.querySelectorAll("textarea")].map((field) => field.value));
}

function firstMessages() {
  const system = fields.system.value.trim();
  return [
    ...(system ? [{ role: "system", content: system }] : []),
    ...turns().flatMap(([user, assistant]) => [{ role: "user", content: user }, { role: "assistant", content: assistant }]),
    { role: "user", content: fields.instruction.value },
  ];
}

function requestOf(column, messages) {
  const request = { model: column.model, messages };
  if (fields.temperature.value !== "") request.temperature = Number(fields.temperature.value);
  if (fields.tokens.value !== "") request.max_tokens = Number(fields.tokens.value);
  if (fields.seed.value !== "") request.seed = Number(fields.seed.value);
  if (column.person === "own" && column.preferences.length) request.preferences = column.preferences;
  if (column.person.startsWith("profile:")) request.profile = column.person.slice("profile:".length);
  return request;
}

// --- the state in the address --------------------------------------------------------------------------------------------

function stateNow() {
  return {
    instruction: fields.instruction.value,
    system: fields.system.value,
    turns: turns(),
    temperature: fields.temperature.value,
    tokens: fields.tokens.value,
    seed: fields.seed.value,
    columns: columns.map(({ model, person, preferences }) => ({ model, person, ...(person === "own" ? { preferences } : {}) })),
  };
}

let writing = null;
function remember() {
  clearTimeout(writing);
  history.replaceState(null, "", linkNow());
}
// While somebody types: browsers allow only so many changes of the address in a while.
function rememberSoon() {
  clearTimeout(writing);
  writing = setTimeout(remember, 300);
}
const linkNow = () => `#${encodeURIComponent(JSON.stringify(stateNow()))}`;

// The state of a link, each part only where it has the form that this page writes; anybody can write a link.
function stateOfAddress() {
  let found = null;
  try {
    found = JSON.parse(decodeURIComponent(location.hash.slice(1)));
  } catch {
    // none, or a broken one
  }
  const text = (value, otherwise = "") => (typeof value === "string" ? value : otherwise);
  const list = (value) => (Array.isArray(value) ? value : []);
  return {
    instruction: text(found?.instruction, fields.instruction.value), // somebody may have typed before this ran
    system: text(found?.system, fields.system.value),
    turns: list(found?.turns).slice(0, 50).map((turn) => [text(turn?.[0]), text(turn?.[1])]),
    temperature: text(found?.temperature, "1"),
    tokens: text(found?.tokens, form.dataset.tokens),
    seed: text(found?.seed),
    columns: list(found?.columns).slice(0, mostColumns).map((one) => ({
      model: text(one?.model), person: text(one?.person, "nobody"), preferences: readPreferences(one?.preferences),
    })),
  };
}

// Two people who want opposite things of the first model: what the page is for.
function twoPeople() {
  const sub = taxonomy().dimensions[0].subdimensions[0];
  return [sub.poles[0], sub.poles.at(-1)].map((pole) => ({
    model: "", person: "own", preferences: [{ subdimension: sub.name, pole: pole.name }],
  }));
}

function restore() {
  const state = stateOfAddress();
  for (const column of [...columns]) column.remove();
  turnList.replaceChildren();
  for (const name of ["instruction", "system", "temperature", "tokens", "seed"]) fields[name].value = state[name];
  for (const texts of state.turns) addTurn(texts);
  document.getElementById("before").open = Boolean(state.system || state.turns.length);
  for (const one of state.columns.length ? state.columns : twoPeople()) addColumn(one);
}

function addTurn(texts = ["", ""]) {
  turnList.append(document.getElementById("turn").content.cloneNode(true));
  const turn = turnList.lastElementChild;
  turn.querySelectorAll("textarea").forEach((field, index) => { field.value = texts[index]; });
  turn.querySelector("button").addEventListener("click", () => {
    turn.remove();
    document.getElementById("add-turn").focus();
    remember();
  });
  return turn;
}

// --- columns -------------------------------------------------------------------------------------------------------------

// The choice of `value` in a list; one that is not there (any more) is added, so that the api can say what is wrong with it.
function choose(select, value, label) {
  if (![...select.options].some((option) => option.value === value)) select.append(new Option(label, value));
  select.value = value;
}

function addColumn({ model, person, preferences }) {
  columnList.append(document.getElementById("column").content.cloneNode(true));
  const place = columnList.lastElementChild;
  const part = (name) => place.querySelector(name);
  const talk = part(".talk");
  const reply = part(".reply");
  const failure = part(".error");
  const composed = part("[data-composed]");
  const modelChoice = part("[data-model]");
  const personChoice = part("[data-person]");
  let running = null;
  let asked = null; // the messages so far

  const column = {
    place,
    preferences,
    get model() { return modelChoice.value; },
    get person() { return personChoice.value; },
    get running() { return running !== null; },
    ask() {
      talk.replaceChildren();
      asked = null;
      run(firstMessages());
    },
    stop: () => running?.abort(),
    remove() {
      column.stop();
      columns.splice(columns.indexOf(column), 1);
      place.remove();
      renumber();
    },
    setPreferences(chosen) {
      column.preferences = chosen;
      showChips(part(".facet-chips"), chosen, (which) => {
        column.setPreferences(chosen.filter((_, index) => index !== which));
        part("[data-choose]").focus();
        remember();
      });
      const save = part("[data-save]");
      if (save) save.disabled = !chosen.length;
    },
    setProfile(name) {
      for (const { place: other } of columns) offerProfile(other.querySelector("[data-person]"), name);
      personChoice.value = `profile:${name}`;
      personChoice.dispatchEvent(new Event("change"));
    },
  };

  function show(state, figures = "") {
    const pill = part(".state");
    pill.className = `state ${STATES[state]}`;
    pill.textContent = state;
    part(".outcome").hidden = false;
    part("[data-figures]").textContent = figures;
    part("[data-stop]").hidden = !["waiting", "streaming"].includes(state);
    announce(`Column ${numberOf(column)} ${state === "streaming" ? "is answering" : `is ${state}`}${figures ? `: ${figures}` : ""}`);
  }

  function showFacts(facts) {
    const [system, by] = composed.querySelectorAll("p");
    system.textContent = facts.system || "None: the model was only told the instruction.";
    by.textContent = [
      facts.profile && `Profile ${facts.profile.name}, version ${facts.profile.version}.`,
      facts.answered_by && `Answered by ${facts.answered_by}${facts.revision ? `, revision ${facts.revision} of ${column.model}` : ""}.`,
    ].filter(Boolean).join(" ");
    composed.hidden = false;
  }

  // Asks with these messages, and shows what comes. Never raises.
  async function run(messages) {
    const controller = new AbortController();
    const before = asked;
    running = controller;
    asked = messages;
    failure.hidden = reply.hidden = composed.hidden = true;
    const answer = document.createTextNode("");
    talk.append(element("p", { className: "text said" }, answer));
    show("waiting");
    refreshButtons();
    const started = performance.now();
    const seconds = () => (performance.now() - started) / 1000;
    let state = "failed";
    let figures = "";
    try {
      const { finish, usage } = await streamAnswer(requestOf(column, messages), controller.signal, {
        facts: showFacts,
        piece(text) {
          if (!answer.length) show("streaming");
          answer.appendData(text);
        },
      });
      state = "done";
      figures = figuresOf(usage, seconds(), finish);
    } catch (error) {
      figures = `${seconds().toFixed(1)} s`;
      if (error.name === "AbortError") {
        state = "stopped";
      } else {
        failure.textContent = error.message;
        failure.hidden = false;
      }
    }
    if (running !== controller || !place.isConnected) return;
    running = null;
    show(state, figures);
    if (state === "failed") announce(`Column ${numberOf(column)} failed: ${failure.textContent}`);
    if (answer.length) {
      asked = [...messages, { role: "assistant", content: answer.data }];
    } else {
      answer.parentElement.remove();
      if (before) takeBack(before);
    }
    reply.hidden = !answer.length && !before;
    refreshButtons();
  }

  // A reply that got no answer goes back to where it was written.
  function takeBack(before) {
    talk.querySelector(".asked:last-child").remove();
    const field = reply.querySelector("textarea");
    field.value ||= asked.at(-1).content;
    asked = before;
  }

  part("[data-remove]").addEventListener("click", () => { column.remove(); remember(); document.getElementById("add-column").focus(); });
  part("[data-stop]").addEventListener("click", column.stop);
  personChoice.addEventListener("change", () => { part("[data-own]").hidden = column.person !== "own"; });
  part("[data-choose]").addEventListener("click", () => choosePreferences(column));
  part("[data-save]")?.addEventListener("click", () => saveProfile(column));
  reply.addEventListener("submit", (event) => {
    event.preventDefault();
    const field = reply.querySelector("textarea");
    talk.append(element("p", { className: "text asked" }, field.value));
    run([...asked, { role: "user", content: field.value }]);
    field.value = "";
    talk.focus();
  });
  for (const button of place.querySelectorAll("[data-code]")) {
    button.addEventListener("click", () => {
      const messages = asked ?? firstMessages();
      const request = requestOf(column, messages.at(-1).role === "assistant" ? messages.slice(0, -1) : messages);
      const code = button.dataset.code === "curl" ? asCurl : asPython;
      showText(`Column ${numberOf(column)} in ${button.dataset.code}`, code(request, location.origin));
    });
  }

  if (model) choose(modelChoice, model, `${model} (does not answer now)`);
  if (person.startsWith("profile:")) offerProfile(personChoice, person.slice("profile:".length));
  personChoice.value = person;
  if (personChoice.selectedIndex < 0) personChoice.value = "nobody";
  personChoice.dispatchEvent(new Event("change"));
  column.setPreferences(preferences);
  columns.push(column);
  renumber();
  return column;
}

function figuresOf(usage, seconds, finish) {
  const tokens = usage?.completion_tokens;
  const parts = tokens ? [`${tokens} tokens`, `${seconds.toFixed(1)} s`, `${(tokens / seconds).toFixed(1)} tokens/s`] : [`${seconds.toFixed(1)} s`];
  if (ENDS[finish]) parts.push(ENDS[finish]);
  return parts.join(", ");
}

function offerProfile(select, name) {
  const group = select.querySelector("optgroup");
  if ([...group.children].some((option) => option.value === `profile:${name}`)) return;
  group.append(new Option(name, `profile:${name}`));
  group.hidden = false;
}

function renumber() {
  columns.forEach((column, index) => {
    const name = `Column ${index + 1}`;
    column.place.querySelector("h2").textContent = name;
    column.place.ariaLabel = name;
    const remove = column.place.querySelector("[data-remove]");
    remove.ariaLabel = `Remove column ${index + 1}`;
    remove.hidden = columns.length === 1;
  });
  document.getElementById("add-column").disabled = columns.length >= mostColumns;
  refreshButtons();
}

function refreshButtons() {
  const any = columns.some((column) => column.running);
  document.getElementById("answer").disabled = any;
  document.getElementById("stop-all").hidden = !any;
}

// --- dialogs -------------------------------------------------------------------------------------------------------------

function choosePreferences(column) {
  const dialog = document.getElementById("preferences");
  document.getElementById("preferences-title").textContent = `What the person of column ${numberOf(column)} wants`;
  const chooser = facetChooser(dialog.querySelector(".facet-chooser"), column.preferences);
  dialog.returnValue = "";
  dialog.onclose = () => {
    if (dialog.returnValue !== "done") return;
    column.setPreferences(chooser.read());
    remember();
  };
  dialog.showModal();
  dialog.scrollTop = 0;
}

function saveProfile(column) {
  const dialog = document.getElementById("save");
  const fault = dialog.querySelector("[role=alert]");
  const name = dialog.querySelector("input");
  fault.hidden = true;
  dialog.querySelector("form").onsubmit = async (event) => {
    event.preventDefault();
    try {
      await send("/v1/profiles", { name: name.value, preferences: column.preferences });
    } catch (error) {
      fault.textContent = error.message;
      fault.hidden = false;
      return;
    }
    dialog.close();
    column.setProfile(name.value);
    remember();
    announce(`Saved as profile ${name.value}`);
  };
  dialog.showModal();
}

function showText(title, text) {
  const dialog = document.getElementById("shown");
  const field = dialog.querySelector("textarea");
  const copy = document.getElementById("copy");
  document.getElementById("shown-title").textContent = title;
  field.value = text;
  copy.textContent = "Copy";
  copy.onclick = async () => {
    field.select();
    try {
      await navigator.clipboard.writeText(text);
      copy.textContent = "Copied";
    } catch {
      copy.textContent = "Selected: copy it with your keys"; // no clipboard without https
    }
  };
  dialog.showModal();
  field.setSelectionRange(0, 0);
  field.scrollTop = 0;
}

// --- the page ------------------------------------------------------------------------------------------------------------

function answerAll() {
  const column = columns.find((one) => one.person === "own" && !one.preferences.length);
  if (column) {
    announce(`Column ${numberOf(column)}: choose preferences, or nobody in particular.`);
    choosePreferences(column);
    return;
  }
  for (const one of columns) one.ask();
}

document.addEventListener("DOMContentLoaded", () => {
  const answer = document.getElementById("answer");
  restore();
  document.addEventListener("input", rememberSoon);
  document.addEventListener("change", remember);
  window.addEventListener("hashchange", restore);
  form.addEventListener("submit", (event) => { event.preventDefault(); answerAll(); });
  // Before the browser checks the fields: it can point at none that is folded away.
  answer.addEventListener("click", () => { if (turnList.children.length) document.getElementById("before").open = true; });
  fields.instruction.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) answer.click();
  });
  document.getElementById("stop-all").addEventListener("click", () => {
    for (const column of columns) column.stop();
    answer.focus();
  });
  document.getElementById("link").addEventListener("click", () => {
    showText("Link to this", new URL(linkNow(), location.href).href);
  });
  document.getElementById("add-turn").addEventListener("click", () => addTurn().querySelector("textarea").focus());
  document.getElementById("add-column").addEventListener("click", () => {
    addColumn({ model: columns.at(-1).model, person: "nobody", preferences: [] }).place.querySelector("select").focus();
    remember();
  });
  for (const button of document.querySelectorAll("dialog [data-close]")) {
    button.addEventListener("click", () => button.closest("dialog").close());
  }
});
