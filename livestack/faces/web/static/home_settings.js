/* Presets and settings: made from what the program itself says of them; only what was changed is sent. */
import { $, el, fill } from "./home_kit.js";

export const settings = { preset: "any", onchange: () => {} };

let sections = [], presets = [];
const changed = new Map();

const inForce = (section, field) => {
  const preset = presets.find((one) => one.name === settings.preset);
  const mine = preset && preset.changes[section.name];
  return mine && field.name in mine ? mine[field.name] : field.default;
};

export const make = (told) => {
  ({ sections, presets } = told);
  fill($("presets"), ...presets.map((one) => el("button", { type: "button", role: "radio", "data-name": one.name, onclick: () => choose(one.name) }, one.title)));
  $("presets").addEventListener("keydown", (e) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[e.key];
    if (!step) return;
    e.preventDefault();
    const at = presets.findIndex((one) => one.name === settings.preset), next = presets[(at + step + presets.length) % presets.length];
    choose(next.name);
    $("presets").querySelector("[aria-checked=true]").focus();
  });
  $("reset").addEventListener("click", () => { changed.clear(); draw(); });
  choose("any");
};

const choose = (name) => {
  settings.preset = name;
  for (const button of $("presets").children) {
    const on = button.dataset.name === name;
    button.setAttribute("aria-checked", String(on));
    button.tabIndex = on ? 0 : -1;
  }
  $("preset-why").textContent = presets.find((one) => one.name === name).why;
  draw();
};

const draw = () => {
  const open = new Set(Array.from($("settings").querySelectorAll("details[open]"), (one) => one.dataset.name));
  fill($("settings"), ...sections.map((section) => el("details", { "data-name": section.name, open: open.has(section.name) },
    el("summary", {}, section.title), ...section.fields.map((field) => drawField(section, field)))));
  tell();
};

const tell = () => {
  $("changed-word").textContent = changed.size ? changed.size + (changed.size === 1 ? " is changed." : " are changed.") : "";
  $("reset").hidden = !changed.size;
  settings.onchange();
};

/* What a setting will be: changed by hand, else by the preset, else its default. */
export const valueOf = (section, name) => {
  const found = sections.find((one) => one.name === section), field = found && found.fields.find((one) => one.name === name);
  return changed.has(section + "." + name) ? changed.get(section + "." + name) : field ? inForce(found, field) : null;
};

const sayValue = (value) => value === null || value === "" ? "empty" : Array.isArray(value) ? value.join(", ") : value === true ? "on" : value === false ? "off" : String(value);

const drawField = (section, field) => {
  const key = section.name + "." + field.name, id = "set-" + key.replace(".", "-"), usual = inForce(section, field);
  const value = changed.has(key) ? changed.get(key) : usual;
  const common = { id, "aria-describedby": id + "-words" };
  const label = field.name.replace(/_/g, " ");
  let input;
  if (field.kind === "switch") input = el("input", { ...common, type: "checkbox", checked: value });
  else if (field.kind === "choice") {
    const words = field.optional ? ["", ...field.choices] : field.choices;
    input = el("select", common, ...words.map((word) => el("option", { value: word, selected: word === (value === null ? "" : value) }, word || "not set")));
  } else if (field.kind === "integer" || field.kind === "number") {
    input = el("input", { ...common, type: "number", step: field.kind === "integer" ? "1" : "any", min: field.min, max: field.max, value: value === null ? "" : value });
  } else input = el("input", { ...common, type: "text", autocomplete: "off", spellcheck: "false", value: value === null ? "" : Array.isArray(value) ? value.join(", ") : value });
  const box = el("div", { class: "field" + (changed.has(key) ? " changed" : "") },
    field.kind === "switch" ? el("label", { class: "check" }, input, el("span", {}, label)) : el("label", { for: id }, label),
    field.kind === "switch" ? null : input,
    el("span", { id: id + "-words", class: "small" }, field.words + ". Usually " + sayValue(usual) + "."));
  input.addEventListener("change", () => {
    let now = field.kind === "switch" ? input.checked : input.value;
    if ((field.kind === "integer" || field.kind === "number") && now !== "") now = Number(now);
    if (field.kind === "words") now = now.split(",").map((word) => word.trim()).filter(Boolean);
    if (JSON.stringify(now) === JSON.stringify(usual) || (now === "" && usual === null)) changed.delete(key); else changed.set(key, now);
    box.classList.toggle("changed", changed.has(key));
    tell();
  });
  return box;
};

/* What was changed: section -> field -> value. */
export const wishes = () => {
  const all = {};
  for (const [key, value] of changed) {
    const [section, field] = key.split(".");
    (all[section] = all[section] || {})[field] = value;
  }
  return all;
};
