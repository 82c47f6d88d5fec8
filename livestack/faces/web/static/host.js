/* The host's controls: each asks the server once and shows its answer; the secret travels as a cookie. */
"use strict";

(() => {
  const $ = (id) => document.getElementById(id);
  const live = window.livestack, node = live.node;

  const ask = (action, body) => window.fetch("host/do/" + action, {
    method: "POST", credentials: "same-origin", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body || {}),
  }).then((answer) => answer.json().catch(() => ({})).then((told) => {
    $("host-answer").textContent = told.message || (answer.ok ? "Done." : "That did not work (" + answer.status + ").");
    refresh();
    return $("host-answer").textContent;
  })).catch(() => { $("host-answer").textContent = "No connection; try again."; });

  $("host-pause").addEventListener("click", () => ask(live.status && live.status.state === "paused" ? "resume" : "pause"));
  $("host-save").addEventListener("click", () => ask("save"));
  $("host-stop").addEventListener("click", () => { if (window.confirm("Stop the session and save the final picture?")) ask("stop"); });

  // On a phone the panel hides the picture: it makes room, and what to do stands above the picture.
  const banner = document.createElement("p");
  banner.id = "host-banner";
  banner.hidden = true;
  banner.setAttribute("role", "status");
  document.body.appendChild(banner);
  const tell = (words, ms) => {
    banner.textContent = words;
    banner.hidden = !words;
    if (ms) window.setTimeout(() => { if (banner.textContent === words) banner.hidden = true; }, ms);
  };

  let choosing = false;
  const choose = (on) => {
    choosing = on;
    $("host-follow").setAttribute("aria-pressed", String(on));
    tell(on ? "Tap the comet or asteroid in the picture." : "");
    if (on && window.innerWidth < 900 && document.body.classList.contains("open")) $("more").click();
  };
  document.addEventListener("keydown", (e) => { if (choosing && e.key === "Escape") choose(false); });
  $("host-follow").addEventListener("click", () => choose(!choosing));
  live.viewer.taps.unshift((x, y) => {
    if (!choosing) return false;
    choose(false);
    const at = live.viewer.toPicture(x, y);
    ask("follow", { x: at[0], y: at[1] }).then((words) => tell(words || "No connection; try again.", 8000));
    return true;
  });

  const shows = Array.from($("host-show").querySelectorAll("button"));
  for (const button of shows) button.addEventListener("click", () => ask("show", { which: button.dataset.which }));
  const showing = (which) => {
    $("host-show").hidden = which === null;
    for (const button of shows) button.setAttribute("aria-pressed", String(button.dataset.which === which));
  };

  const text = (form, input, action, sure) => $(form).addEventListener("submit", (e) => {
    e.preventDefault();
    if (sure && !window.confirm(sure)) return;
    ask(action, { text: $(input).value });
    $(input).blur();
  });
  text("host-object-form", "host-object", "object");
  text("host-note-form", "host-note", "note");
  text("host-target-form", "host-target", "target", "Save this stack and begin a new one?");

  let soon = null;
  const stretch = () => {
    $("host-background-word").textContent = Number($("host-background").value).toFixed(2);
    $("host-saturation-word").textContent = Number($("host-saturation").value).toFixed(1);
  };
  const restretch = () => {
    stretch();
    window.clearTimeout(soon);
    soon = window.setTimeout(() => { soon = null; ask("stretch", { background: Number($("host-background").value), saturation: Number($("host-saturation").value) }); }, 400);
  };
  $("host-background").addEventListener("input", restretch);
  $("host-saturation").addEventListener("input", restretch);
  // What is in force, but for what a finger is about to change.
  const inForce = (s) => {
    if (soon !== null) return;
    for (const name of ["background", "saturation"]) {
      if (document.activeElement !== $("host-" + name)) $("host-" + name).value = s[name];
    }
    stretch();
  };

  const fill = (element, children) => { while (element.firstChild) element.removeChild(element.firstChild); for (const child of children) element.appendChild(child); };
  const number = (value, digits) => (value === null ? "–" : value.toFixed(digits));
  const frameRow = (f) => {
    const row = document.createElement("tr"), last = document.createElement("td");
    row.className = f.status;
    row.appendChild(node("td", f.file));
    if (f.status === "refused") {
      const why = node("td", f.message || "refused");
      why.colSpan = 3;
      row.appendChild(why);
      return row;
    }
    row.appendChild(node("td", number(f.fwhm_px, 2)));
    row.appendChild(node("td", f.transparency === null ? "–" : Math.round(100 * f.transparency) + " %"));
    const out = node("button", "Take out");
    out.type = "button";
    out.setAttribute("aria-label", "Take " + f.file + " out of the stack");
    out.addEventListener("click", () => { out.disabled = true; ask("remove", { text: f.file }); });
    last.appendChild(out);
    row.appendChild(last);
    return row;
  };

  let busy = false, again = false, keys = {};
  const changed = (name, value) => { const key = JSON.stringify(value); if (keys[name] === key) return false; keys[name] = key; return true; };
  const refresh = () => {
    if (busy) { again = true; return; }
    busy = true;
    window.fetch("host/state.json", { cache: "no-store", credentials: "same-origin" }).then((answer) => {
      if (answer.status === 403) throw new Error("This session is not yours: open the link that the terminal shows.");
      return answer.json();
    }).then((s) => {
      $("host-pause").textContent = s.state === "paused" ? "Resume" : "Pause";
      showing(s.moving);
      inForce(s);
      if (changed("warnings", s.warnings)) fill($("host-warnings"), s.warnings.map((w) => node("li", w)));
      if (changed("messages", s.messages)) fill($("host-messages"), s.messages.map((m) => node("li", m)));
      if ($("host-frames").open && changed("frames", s.frames)) fill($("host-frame-rows"), s.frames.map(frameRow));
      if (document.activeElement !== $("host-object")) $("host-object").value = live.status ? live.status.object : "";
      if (document.activeElement !== $("host-note")) $("host-note").value = live.status ? live.status.note : "";
    }).catch((e) => { $("host-answer").textContent = e.message; }).then(() => {
      window.setTimeout(() => { busy = false; if (again) { again = false; refresh(); } }, 1000);
    });
  };
  $("host-frames").addEventListener("toggle", refresh);
  live.onstatus.push(refresh);
  refresh();
})();
