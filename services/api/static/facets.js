// What a person prefers, chosen from the taxonomy or said in own words: the chooser of /try and of the profiles' form.
"use strict";

const MOST_PREFERENCES = 12;

// An element with properties, and with children that are elements or texts.
function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

const taxonomy = () => JSON.parse(document.getElementById("taxonomy").textContent);

// A few words for a preference.
function preferenceText(preference) {
  if (preference.seed) return preference.seed;
  const place = preference.pole ? `${preference.subdimension}: ${preference.pole}` : preference.subdimension;
  if (!preference.description) return place;
  return place ? `${place} – ${preference.description}` : `“${preference.description}”`;
}

// The preferences of a value that somebody else wrote (a link), or none where it is no such list.
function readPreferences(value) {
  const text = (one) => typeof one === "string" && one !== "";
  return (Array.isArray(value) ? value : []).slice(0, MOST_PREFERENCES).flatMap((one) => {
    const kept = Object.fromEntries(["seed", "subdimension", "pole", "description"].filter((name) => text(one?.[name])).map((name) => [name, one[name]]));
    return kept.seed || kept.pole || kept.description ? [kept] : [];
  });
}

// Chips of preferences; with `remove`, each has a button that calls it with the preference's number.
function showChips(place, preferences, remove = null) {
  place.replaceChildren(...preferences.map((preference, number) => {
    const words = preferenceText(preference);
    const chip = element("li", {}, words);
    if (remove) chip.append(element("button", { type: "button", textContent: "×", ariaLabel: `Remove ${words}`, onclick: () => remove(number) }));
    return chip;
  }));
}

// A chooser in `place`. What it cannot show (two wishes of one subdimension, a seed of another taxonomy) it keeps as chips.
function facetChooser(place, preferences, changed = () => {}) {
  const dimensions = taxonomy().dimensions;
  const chosen = new Map();
  let others = [];
  let number = 0;
  const seedPlaces = new Map(dimensions.flatMap((one) => one.subdimensions).flatMap((sub) => sub.seeds.map((seed) => [seed.name, sub.name])));
  const subdimensions = new Map(dimensions.flatMap((one) => one.subdimensions).map((sub) => [sub.name, sub]));
  const words = element("textarea", { rows: 3, className: "prose", placeholder: "I am a nurse on night shift and read on my phone." });
  const kept = element("ul", { className: "facet-chips", ariaLabel: "Further preferences" });
  const count = element("p", { className: "muted", role: "status" });

  for (const preference of preferences) {
    const name = preference.seed ? seedPlaces.get(preference.seed) : preference.subdimension;
    const known = subdimensions.has(name) && !preference.description && (preference.seed || subdimensions.get(name).poles.some((pole) => pole.name === preference.pole));
    if (known && !chosen.has(name)) chosen.set(name, preference);
    else if (preference.description && !preference.seed && !preference.subdimension && !preference.description.includes("\n")) words.value += `${words.value ? "\n" : ""}${preference.description}`;
    else others.push(preference);
  }

  const read = () => [
    ...dimensions.flatMap((one) => one.subdimensions).map((sub) => chosen.get(sub.name)).filter(Boolean),
    ...others,
    ...words.value.split("\n").map((line) => line.trim()).filter(Boolean).map((description) => ({ description })),
  ];

  function refresh() {
    const held = read().length;
    count.textContent = held > MOST_PREFERENCES ? `${held} preferences: at most ${MOST_PREFERENCES} can be sent, so take some away.` : `${held} of at most ${MOST_PREFERENCES} preferences.`;
    showChips(kept, others, (which) => { others = others.filter((_, index) => index !== which); refresh(); words.focus(); });
    kept.hidden = !others.length;
    for (const part of place.querySelectorAll("details")) {
      const ofPart = [...part.querySelectorAll("select")].filter((select) => select.value).length;
      part.querySelector("summary .muted").textContent = ofPart ? `${ofPart} chosen` : "";
    }
    changed(read());
  }

  function choice(sub) {
    const select = element("select", {}, element("option", { value: "", textContent: "no wish" }));
    const meaning = element("small", { className: "muted", id: `meaning-${(number += 1)}` });
    select.setAttribute("aria-describedby", meaning.id);
    const preference = () => (select.value === "" ? null : JSON.parse(select.value));
    for (const pole of sub.poles) {
      const option = (label, value) => element("option", { textContent: label, value: JSON.stringify(value) });
      select.append(element("optgroup", { label: pole.name },
        option(`${pole.name}, in general`, { subdimension: sub.name, pole: pole.name }),
        ...sub.seeds.filter((seed) => seed.pole === pole.name).map((seed) => option(seed.name, { seed: seed.name }))));
    }
    const held = chosen.get(sub.name);
    if (held) select.value = JSON.stringify(held.seed ? { seed: held.seed } : { subdimension: sub.name, pole: held.pole });
    const explain = () => {
      const wanted = preference();
      const found = wanted?.seed ? sub.seeds.find((seed) => seed.name === wanted.seed) : sub.poles.find((pole) => pole.name === wanted?.pole);
      meaning.textContent = (found || sub).description;
    };
    select.addEventListener("change", () => {
      if (preference()) chosen.set(sub.name, preference());
      else chosen.delete(sub.name);
      explain();
      refresh();
    });
    explain();
    return element("div", {}, element("label", {}, sub.name, select), meaning);
  }

  place.replaceChildren(...dimensions.map((dimension, index) => element("details", { className: "dimension", open: !index },
    element("summary", {}, dimension.name.replaceAll("_", " "), " ", element("span", { className: "muted" })),
    element("div", { className: "choices" }, ...dimension.subdimensions.map(choice)))));
  place.append(element("label", {}, "In their own words, one wish a line", words), kept, count);
  words.addEventListener("input", refresh);
  refresh();
  return { read };
}
