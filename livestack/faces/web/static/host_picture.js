/* The picture's controls: histogram with black, middle and white, kinds of stretch, colour. All begin at what is in
   force, and what a finger is about to change is left alone. */
"use strict";

(() => {
  const $ = (id) => document.getElementById(id);
  const host = window.livestackHost;
  const SLIDERS = { black: 3, midtone: 2, white: 3, background: 2, saturation: 1 };
  const DEFAULTS = { stretch: "auto", norm: "stack", black: 0, midtone: 0.5, white: 1, background: 0.12, saturation: 1.5, white_balance: "stars", gradient_removal: true, linked: true };
  const choices = Array.from(document.querySelectorAll("[data-setting]"));
  let soon = null, pending = {}, levels = null;

  const words = () => { for (const name of Object.keys(SLIDERS)) $("host-" + name + "-word").textContent = Number($("host-" + name).value).toFixed(SLIDERS[name]); };

  const send = () => {
    const asked = pending;
    pending = {};
    soon = null;
    const names = Object.keys(asked);
    if (names.every((name) => name === "background" || name === "saturation")) {
      host.ask("stretch", { background: Number($("host-background").value), saturation: Number($("host-saturation").value) });
    } else host.ask("render", asked);
  };
  const later = (name, value, ms) => {
    pending[name] = value;
    window.clearTimeout(soon);
    soon = window.setTimeout(send, ms);
  };
  for (const name of Object.keys(SLIDERS)) {
    $("host-" + name).addEventListener("input", () => {
      // Black stays below white, whichever is moved.
      if (name === "black" && Number($("host-black").value) > Number($("host-white").value) - 0.02) $("host-black").value = Number($("host-white").value) - 0.02;
      if (name === "white" && Number($("host-white").value) < Number($("host-black").value) + 0.02) $("host-white").value = Number($("host-black").value) + 0.02;
      words();
      drawLevels();
      later(name, Number($("host-" + name).value), 400);
    });
  }
  for (const input of choices) {
    input.addEventListener("change", () => later(input.dataset.setting, input.type === "checkbox" ? input.checked : input.value, 0));
  }
  $("host-asbegun").addEventListener("click", () => { pending = { ...DEFAULTS }; window.clearTimeout(soon); send(); });

  host.onstate.push((s) => {
    if (soon === null) {
      for (const name of Object.keys(SLIDERS)) if (document.activeElement !== $("host-" + name)) $("host-" + name).value = s.render[name];
      for (const input of choices) {
        if (document.activeElement === input) continue;
        if (input.type === "checkbox") input.checked = s.render[input.dataset.setting]; else input.value = s.render[input.dataset.setting];
      }
      words();
    }
    if (host.changed("levels", s.levels)) levels = s.levels;
    if ($("host-picture").open) drawLevels();
  });

  // --- the histogram: what the stretch makes, and where black, middle and white cut it ---

  const drawLevels = () => {
    const svg = $("host-levels"), put = window.livestackDraw(svg), bottom = 84;
    put("rect", { class: "ground", x: 0, y: 0, width: 300, height: bottom });
    if (levels) {
      const colours = levels.length === 3 ? ["red", "green", "blue"] : ["grey"];
      const most = Math.log1p(Math.max(...levels.map((counts) => Math.max(...counts.slice(1, -1)))) || 1);
      levels.forEach((counts, c) => {
        const points = counts.map((n, k) => (300 * (k + 0.5) / counts.length).toFixed(1) + "," + (bottom - (bottom - 6) * Math.min(1, Math.log1p(n) / most)).toFixed(1));
        put("polygon", { class: "levels " + colours[c], points: "0," + bottom + " " + points.join(" ") + " 300," + bottom });
      });
    }
    const black = Number($("host-black").value), white = Number($("host-white").value), middle = black + Number($("host-midtone").value) * (white - black);
    for (const [name, at] of [["black", black], ["middle", middle], ["white", white]]) {
      put("line", { class: "cut " + name, x1: 300 * at, x2: 300 * at, y1: 0, y2: bottom });
      put("path", { class: "grip " + name, d: "M" + 300 * at + " " + bottom + " l-6 11 h12 z" });
    }
    svg.setAttribute("aria-label", "Histogram: black at " + Math.round(100 * black) + " %, middle at " + Math.round(100 * middle) + " %, white at " + Math.round(100 * white) + " % of the stretched picture");
  };

  // The three points can be dragged in the histogram, too: the nearest one is taken.
  let held = null;
  const place = (e) => { const box = $("host-levels").getBoundingClientRect(); return Math.min(1, Math.max(0, (e.clientX - box.left) / box.width)); };
  const drag = (e) => {
    const black = Number($("host-black").value), white = Number($("host-white").value), at = place(e);
    const value = held === "midtone" ? (at - black) / (white - black) : at;
    $("host-" + held).value = value;
    $("host-" + held).dispatchEvent(new Event("input"));
  };
  $("host-levels").addEventListener("pointerdown", (e) => {
    const black = Number($("host-black").value), white = Number($("host-white").value), at = place(e);
    const points = { black: black, midtone: black + Number($("host-midtone").value) * (white - black), white: white };
    held = Object.keys(points).sort((a, b) => Math.abs(points[a] - at) - Math.abs(points[b] - at))[0];
    $("host-levels").setPointerCapture(e.pointerId);
    drag(e);
  });
  $("host-levels").addEventListener("pointermove", (e) => { if (held) drag(e); });
  for (const end of ["pointerup", "pointercancel"]) $("host-levels").addEventListener(end, () => { held = null; });
})();
