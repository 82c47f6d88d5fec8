/* The visitors' language: the first of the browser's that there is a catalogue for, or the one that was chosen by hand.
   English texts are the keys; a text that has no translation stays English. Catalogues are words_<language>.json. */
"use strict";

(() => {
  const NAMES = { en: "English", de: "Deutsch", fr: "Français", es: "Español", it: "Italiano", pt: "Português", nl: "Nederlands", pl: "Polski", ja: "日本語", zh: "中文" };
  const remembered = (value) => {
    try { if (value === undefined) return window.localStorage.getItem("language"); window.localStorage.setItem("language", value); } catch (e) { /* private mode */ }
    return null;
  };
  const wished = [remembered(), ...(navigator.languages || [navigator.language])].filter(Boolean).map((tag) => tag.slice(0, 2).toLowerCase());
  const lang = document.body.dataset.host === "1" ? "en" : wished.find((tag) => tag in NAMES) || "en";
  let words = {};

  /* A text in the visitor's language; {name} stands for a value, and `n` chooses the form of a plural. */
  const T = (text, values) => {
    let found = words[text];
    if (found && typeof found === "object") found = found[new Intl.PluralRules(lang).select(values ? values.n : 1)] || found.other;
    found = found || text;
    for (const name of Object.keys(values || {})) {
      const value = values[name];
      found = found.split("{" + name + "}").join(typeof value === "number" ? value.toLocaleString(lang) : value);
    }
    return found;
  };

  const ATTRIBUTES = ["aria-label", "title", "alt"];
  const translate = (root) => {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode, text = node.nodeValue.trim();
      if (typeof words[text] === "string") node.nodeValue = node.nodeValue.replace(text, words[text]);
    }
    for (const element of root.querySelectorAll("[aria-label], [title], [alt]")) {
      for (const name of ATTRIBUTES) {
        const text = element.getAttribute(name);
        if (text && typeof words[text] === "string") element.setAttribute(name, words[text]);
      }
    }
  };

  const choice = document.getElementById("language");
  if (choice) {
    for (const tag of Object.keys(NAMES)) {
      const option = document.createElement("option");
      option.value = tag;
      option.lang = tag;
      option.textContent = NAMES[tag];
      option.selected = tag === lang;
      choice.appendChild(option);
    }
    choice.addEventListener("change", () => { remembered(choice.value); window.location.reload(); });
  }

  const ready = window.fetch("static/words_" + lang + ".json").then((answer) => answer.json()).then((told) => {
    words = told;
    document.documentElement.lang = lang;
    translate(document.body);
  }).catch(() => { /* English it is */ });
  window.livestackWords = { T: T, lang: lang, ready: ready };
})();
