/* The host's controls: each asks the server once and shows its answer; the secret travels as a cookie. What the state
   brings is given on to those who asked for it by `host.onstate`. */
"use strict";

(() => {
  const $ = (id) => document.getElementById(id);
  const live = window.livestack, node = live.node;
  document.body.classList.add("hosting");

  const ask = (action, body) => window.fetch("host/do/" + action, {
    method: "POST", credentials: "same-origin", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body || {}),
  }).then((answer) => answer.json().catch(() => ({})).then((told) => {
    $("host-answer").textContent = told.message || (answer.ok ? "Done." : "That did not work (" + answer.status + ").");
    refresh();
    return $("host-answer").textContent;
  })).catch(() => { $("host-answer").textContent = "No connection; try again."; });

  const host = { ask: ask, onstate: [], refresh: () => refresh() };
  window.livestackHost = host;

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

  for (const box of document.querySelectorAll("[data-save]")) {
    box.addEventListener("change", () => ask("save-settings", { [box.dataset.save]: box.checked }));
  }

  /* What is on the screen, as it is zoomed and divided. */
  $("host-view").addEventListener("click", () => live.viewer.canvas.toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = (live.status && live.status.object || "livestack").replace(/[^\w-]+/g, "_") + "_view.png";
    link.click();
    window.setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }, "image/png"));

  // Parts stay as they were left.
  for (const part of document.querySelectorAll("#host > details")) {
    try {
      const kept = window.localStorage.getItem(part.id);
      if (kept !== null) part.open = kept === "1";
    } catch (e) { /* private mode */ }
    part.addEventListener("toggle", () => {
      try { window.localStorage.setItem(part.id, part.open ? "1" : "0"); } catch (e) { /* private mode */ }
      refresh();
    });
  }

  const fill = (element, children) => { while (element.firstChild) element.removeChild(element.firstChild); for (const child of children) element.appendChild(child); };
  host.fill = fill;

  /* Two soft tones: a warning falls, the end rises. Browsers let a page sound only after a hand was on it. */
  let sounding = null, warned = "[]";
  const sound = (tones) => {
    if (!$("host-sound").checked) return;
    sounding = sounding || new AudioContext();
    tones.forEach((hertz, k) => {
      const tone = sounding.createOscillator(), volume = sounding.createGain(), at = sounding.currentTime + 0.28 * k;
      tone.frequency.value = hertz;
      volume.gain.setValueAtTime(0.0001, at);
      volume.gain.exponentialRampToValueAtTime(0.2, at + 0.03);
      volume.gain.exponentialRampToValueAtTime(0.0001, at + 0.26);
      tone.connect(volume).connect(sounding.destination);
      tone.start(at);
      tone.stop(at + 0.28);
    });
    host.sounded = (host.sounded || 0) + 1;
  };
  try { $("host-sound").checked = window.localStorage.getItem("sound") === "1"; } catch (e) { /* private mode */ }
  $("host-sound").addEventListener("change", () => {
    try { window.localStorage.setItem("sound", $("host-sound").checked ? "1" : ""); } catch (e) { /* private mode */ }
    sound([660]);
  });

  let busy = false, again = false, ended = false;
  const keys = {};
  const changed = (name, value) => { const key = JSON.stringify(value); if (keys[name] === key) return false; keys[name] = key; return true; };
  host.changed = changed;
  const end = () => {
    ended = true;
    sound([523, 659]);
    banner.textContent = "";
    const link = node("a", "The session has ended: see what it left.");
    link.href = "/home#gallery";
    banner.appendChild(link);
    banner.classList.add("end");
    banner.hidden = false;
    $("host-answer").textContent = "The session has ended.";
  };
  const refresh = () => {
    if (ended) return;
    if (busy) { again = true; return; }
    busy = true;
    window.fetch("host/state.json", { cache: "no-store", credentials: "same-origin" }).then((answer) => {
      if (answer.status === 403) throw new Error("This session is not yours: open the link that the terminal shows.");
      if (answer.status === 503) { end(); return null; }
      return answer.json();
    }).then((s) => {
      if (!s) return;
      $("host-pause").textContent = s.state === "paused" ? "Resume" : "Pause";
      $("host-home").hidden = !s.home;
      showing(s.moving);
      const news = JSON.stringify(s.warnings);
      if (news !== warned && news !== "[]") sound([659, 440]);
      warned = news;
      if (changed("warnings", s.warnings)) fill($("host-warnings"), s.warnings.map((w) => node("li", w)));
      if (changed("messages", s.messages)) fill($("host-messages"), s.messages.map((m) => node("li", m)));
      for (const box of document.querySelectorAll("[data-save]")) box.checked = s.save[box.dataset.save];
      if (document.activeElement !== $("host-object")) $("host-object").value = live.status ? live.status.object : "";
      if (document.activeElement !== $("host-note")) $("host-note").value = live.status ? live.status.note : "";
      for (const listener of host.onstate) listener(s);
    }).catch((e) => { $("host-answer").textContent = e.message; }).then(() => {
      window.setTimeout(() => { busy = false; if (again) { again = false; refresh(); } }, 1000);
    });
  };
  live.onstatus.push(refresh);
  // Home's server answers when the session's is gone: then the stream breaks, and the state tells why.
  window.setInterval(() => { if (!document.hidden && !$("link").hidden) refresh(); }, 3000);
  window.setTimeout(refresh, 0);
})();
