/* Follows the session: events from the server (or a status file on a static site), and puts them on the page. */
"use strict";

(() => {
  const $ = (id) => document.getElementById(id);
  const isStatic = document.body.dataset.mode === "static";
  const viewer = new window.LivestackViewer($("view"), $("divider"));
  const live = { status: null, viewer: viewer, onstatus: [] };
  const { T, lang, ready } = window.livestackWords;
  window.livestack = live;

  // --- words ---

  const duration = (seconds) => {
    const whole = Math.round(seconds || 0), h = Math.floor(whole / 3600), m = Math.floor(whole / 60) % 60, s = whole % 60;
    if (h) return h + " h " + String(m).padStart(2, "0") + " min";
    if (m) return s ? m + " min " + s + " s" : m + " min";
    return (seconds && seconds < 10 && seconds !== whole ? seconds.toFixed(1) : s) + " s";
  };
  const say = (id, text) => { const e = $(id); if (e.textContent !== text) e.textContent = text; };
  const list = (id, kind, entries) => {
    const e = $(id);
    while (e.firstChild) e.removeChild(e.firstChild);
    for (const entry of entries) e.appendChild(entry);
  };
  const node = (kind, text) => { const e = document.createElement(kind); e.textContent = text; return e; };
  const facts = (id, rows) => {
    const key = JSON.stringify(rows);
    if ($(id).dataset.key === key) return;
    $(id).dataset.key = key;
    list(id, "dl", rows.reduce((all, [name, value]) => all.concat([node("dt", name), node("dd", value)]), []));
  };
  live.duration = duration;
  live.node = node;

  // --- one status ---

  const show = (s) => {
    const first = live.status === null;
    const target = live.status && live.status.object !== s.object;
    live.status = s;
    const name = s.object || T("Live from the telescope");
    const title = s.card && s.card.common_name && !name.toLowerCase().includes(s.card.common_name.toLowerCase())
      ? s.card.common_name : name;
    say("object", title);
    say("tagline", s.note || [title === name ? "" : name, s.card ? s.card.kind.split(":")[0] : "",
      s.card ? s.card.constellation : ""].filter(Boolean).join(" · "));
    document.title = s.frames + " × " + title + " · live";
    say("frames", s.frames.toLocaleString(lang));
    say("frames-word", T("frames stacked", { n: s.frames }));
    const state = { paused: T("paused"), saving: T("saving"), ended: T("finished") }[s.state] || "";
    say("exposure", [state, s.frames ? T("{time} of light", { time: duration(s.exposure_total) }) : ""].filter(Boolean).join(" · "));
    $("waiting").hidden = Boolean(s.picture || s.frame);
    viewer.setFull(s.full[0] || s.size[0], s.full[1] || s.size[1]);
    viewer.setTiles(s.tiles);
    viewer.setPicture("stack", s.small && viewer.isSmall ? s.small : s.picture);
    // The single frame is renewed only for those who look at it.
    if (!viewer.frame || viewer.split > 0 || target || !s.frame) viewer.setPicture("frame", s.frame);
    say("label-stack", s.frames.toLocaleString(lang) + " " + T("frames stacked", { n: s.frames }));
    $("view").setAttribute("aria-label", T("Live picture from the telescope") + ": " + title + ", " + s.frames + " " + T("frames stacked", { n: s.frames }));
    $("save-picture").hidden = !s.picture;
    $("save-picture").href = s.picture || "";
    $("save-picture").download = title.replace(/[^\w-]+/g, "_") + "_" + s.frames + ".jpg";
    showCard(s, title, name);
    showLight(s);
    showRefused(s);
    showNoise(s);
    showGrowth(s, target);
    showJoin(s);
    tell(s, first);
    for (const listener of live.onstatus) listener(s);
  };

  const showCard = (s, title, name) => {
    const card = s.card, rows = [];
    say("card-name", title);
    say("note", s.note);
    if (card) {
      if (title !== name) rows.push([T("Also called"), name]);
      rows.push([T("What"), card.kind]);
      if (card.constellation) rows.push([T("Constellation"), card.constellation]);
      if (card.size_arcmin) {
        const [long, short] = card.size_arcmin, moons = long / 31;
        const angle = (v) => (v >= 90 ? (v / 60).toFixed(1) + "°" : v >= 10 ? Math.round(v) + "′" : v.toFixed(1) + "′");
        rows.push([T("Size in the sky"), long === short ? angle(long) : angle(long) + " × " + angle(short)]);
        if (moons >= 0.15) rows.push(["", T("{n} × the full Moon", { n: moons >= 1.5 ? Math.round(moons) : Number(moons.toFixed(1)) })]);
      }
      if (card.distance_ly !== null) {
        const d = card.distance_ly;
        rows.push([T("Distance"), d >= 1e6 ? T("{n} million light years", { n: d / 1e6 }) : T("{n} light years", { n: d })]);
      }
      if (card.magnitude !== null) rows.push([T("Brightness"), T("magnitude {n}", { n: card.magnitude.toFixed(1) })]);
    }
    facts("card-facts", rows);
    say("card-source", card && card.source ? T("Facts: {source}", { source: card.source }) : "");
  };

  const showLight = (s) => {
    const rows = Object.keys(s.exposure).sort().map((f) => [f || T("Exposure"), duration(s.exposure[f])]);
    if (rows.length > 1) rows.push([T("Together"), duration(s.exposure_total)]);
    rows.push([T("Frames stacked"), String(s.frames)]);
    if (s.frames_session > s.frames) rows.push([T("In the whole session"), String(s.frames_session)]);
    if (s.waiting) rows.push([T("Waiting"), String(s.waiting)]);
    if (s.fwhm_px !== null) rows.push([T("Star size"), s.fwhm_arcsec !== null ? s.fwhm_arcsec.toFixed(1) + "″" : s.fwhm_px.toFixed(1) + " px"]);
    if (s.gain !== null) rows.push([T("Clearer than one frame"), s.gain.toFixed(1) + " ×"]);
    if (s.passed) rows.push([T("Passed by"), s.passed]);
    facts("light-facts", rows);
  };

  const showRefused = (s) => {
    const total = Math.max(s.frames, s.frames_session || 0) + s.refused;  // refused are those of the whole session
    say("refused-word", s.refused
      ? T("{n} of {total}", { n: s.refused, total: total }) + (s.last_refusal ? "; " + T("the last because {why}", { why: T(s.last_refusal) }) : "")
      : T("Nothing was left out so far."));
    const key = JSON.stringify(s.refusals);
    if ($("refused-list").dataset.key === key) return;
    $("refused-list").dataset.key = key;
    list("refused-list", "ul", s.refusals.map((r) => {
      const item = node("li", " × " + T(r.words));
      item.insertBefore(node("strong", String(r.count)), item.firstChild);
      return item;
    }));
  };

  const showNoise = (s) => {
    const points = s.noise.filter((p) => p[0] >= 1 && p[1] > 0);
    $("noise").hidden = points.length < 2;
    if (points.length < 2) return;
    const left = points[points.length - 1];
    say("noise-word", T("After {n} frames only {share} % of one frame's noise is left.", { n: left[0], share: Math.round(100 * left[1]) }));
    const key = JSON.stringify(points);
    if ($("noise").dataset.key !== key) { $("noise").dataset.key = key; window.livestackChart($("noise-chart"), points); }
  };

  const scrub = { grown: [], at: null };
  const showGrowth = (s, another) => {
    const follows = scrub.at === null || another;
    scrub.grown = s.grown;
    $("growth").hidden = s.grown.length < 2;
    $("scrub").max = String(Math.max(0, s.grown.length - 1));
    if (follows) { goTo(null); return; }
    const kept = s.grown.findIndex((g) => g[0] === scrub.at);
    if (kept >= 0) $("scrub").value = String(kept);
  };
  const goTo = (index) => {
    const past = index === null || index >= scrub.grown.length - 1 ? null : scrub.grown[index];
    scrub.at = past ? past[0] : null;
    if (!past) $("scrub").value = $("scrub").max;
    viewer.setPicture("past", past ? past[0] : null);
    const words = past ? T("after {n} frames", { n: past[1] }) : T("now");
    say("scrub-word", words);
    $("scrub").setAttribute("aria-valuetext", words);
    $("scrub-live").hidden = !past;
  };
  $("scrub").addEventListener("input", () => { stopFilm(); goTo(Number($("scrub").value)); });
  $("scrub-live").addEventListener("click", () => { stopFilm(); goTo(null); });

  /* The time-lapse: from the first picture to the last; the next one is shown when it is there. */
  let film = null;
  const stopFilm = () => { window.clearTimeout(film); film = null; $("scrub-play").setAttribute("aria-pressed", "false"); };
  const play = (index) => {
    if (index >= scrub.grown.length) { stopFilm(); goTo(null); return; }
    $("scrub").value = String(index);
    goTo(index);
    film = window.setTimeout(() => play(index + 1), 160);
  };
  $("scrub-play").addEventListener("click", () => {
    if (film !== null) { stopFilm(); return; }
    $("scrub-play").setAttribute("aria-pressed", "true");
    play(0);
  });

  const showJoin = (s) => {
    $("join").hidden = !s.join;
    if (s.join && $("join").dataset.url !== s.join) { $("join").dataset.url = s.join; $("join-code").src = "qr.svg"; }
  };

  /* Spoken news for those who listen: not at every frame. */
  let told = 0;
  const tell = (s, first) => {
    if (!first && Date.now() - told < 30000) return;
    told = Date.now();
    say("news", s.frames + " " + T("frames stacked", { n: s.frames }) + ", " + T("{time} of light", { time: duration(s.exposure_total) }));
  };

  viewer.onsplit = () => { if (live.status) viewer.setPicture("frame", live.status.frame); };

  // --- the line to the server ---

  let source = null, heard = 0, retry = null, poll = null;
  const lost = (words) => { say("link", words); $("link").hidden = false; };
  const found = () => { heard = Date.now(); if (!$("link").hidden) $("link").hidden = true; };
  const take = (text) => { found(); return ready.then(() => show(JSON.parse(text))); };

  const listen = () => {
    window.clearTimeout(retry);
    if (source) source.close();
    heard = Date.now();
    source = new EventSource("events");
    source.onmessage = (e) => take(e.data);
    source.addEventListener("tick", found);
    source.onerror = () => {
      lost(T("Reconnecting…"));
      // A browser gives up after an answer such as "too many visitors": look now and then, and try again.
      if (source.readyState === 2) { retry = window.setTimeout(() => { ask().then(listen, listen); }, 4000 + 3000 * Math.random()); }
    };
  };
  const ask = () => window.fetch("status.json", { cache: "no-store" })
    .then((answer) => { if (!answer.ok) throw new Error(answer.status); return answer.text(); }).then(take);
  const quiet = () => { window.clearTimeout(retry); if (source) source.close(); source = null; };

  ready.then(() => say("more", $("host") ? "Host" : T("About")));
  if (isStatic) {
    const look = () => ask().catch(() => lost(T("Reconnecting…")));
    look();
    poll = window.setInterval(() => { if (!document.hidden) look(); }, 10000);
  } else {
    listen();
    window.setInterval(() => { if (source && Date.now() - heard > 25000) { lost(T("Reconnecting…")); listen(); } }, 3000);
    // A phone in the pocket needs no pictures.
    document.addEventListener("visibilitychange", () => { if (document.hidden) quiet(); else listen(); });
    window.addEventListener("pagehide", quiet);
    window.addEventListener("pageshow", (e) => { if (e.persisted) listen(); });
  }

  // --- buttons ---

  const press = (id, on) => $(id).setAttribute("aria-pressed", on ? "true" : "false");
  const remembered = (name, value) => {
    try { if (value === undefined) return window.localStorage.getItem(name); window.localStorage.setItem(name, value); } catch (e) { /* private mode */ }
    return null;
  };
  const setNight = (on) => { document.body.classList.toggle("night", on); press("night", on); remembered("night", on ? "1" : ""); };
  setNight(remembered("night") === "1");
  $("night").addEventListener("click", () => setNight(!document.body.classList.contains("night")));
  $("zoom-full").addEventListener("click", () => { const [w, h] = viewer.size; viewer.toggle(w / 2, h / 2); });
  viewer.onview = () => {
    press("zoom-full", !viewer.fitting);
    say("zoom-word", viewer.fitting || !viewer.zoom ? "1:1" : Math.round(100 * viewer.zoom) + " %");
  };
  const moreWord = $("host") ? "Host" : T("About");
  say("more", moreWord);
  $("more").addEventListener("click", () => {
    const open = document.body.classList.toggle("open");
    $("more").setAttribute("aria-expanded", open ? "true" : "false");
    say("more", open ? T("Close") : moreWord);
  });

  /* The projector turns between the stack, one single frame and why it works; a hand on the divider stops it. */
  const TURN_MS = 20000;
  let turning = null, face = 0;
  const turnTo = (to) => {
    face = to;
    document.body.classList.toggle("why", face === 2 && !$("noise").hidden);
    viewer.setSplit(face === 1 ? 1 : 0);
    if (face === 2 && !$("noise").hidden) {
      const points = live.status.noise.filter((p) => p[0] >= 1 && p[1] > 0);
      window.livestackChart($("why-chart"), points);
      say("why-word", $("noise-word").textContent);
    }
  };
  const turn = (on) => {
    window.clearInterval(turning);
    turning = null;
    document.body.classList.remove("why");
    if (!on) { if (face) viewer.setSplit(0); face = 0; return; }
    if (window.location.hash === "#projector-still") return;
    turning = window.setInterval(() => turnTo((face + 1) % 3), TURN_MS);
  };
  live.turn = turnTo;
  $("divider").addEventListener("pointerdown", () => { window.clearInterval(turning); turning = null; });

  let sleep = null;
  const wake = () => {
    document.body.classList.add("awake");
    window.clearTimeout(sleep);
    sleep = window.setTimeout(() => document.body.classList.remove("awake"), 2500);
  };
  const setProjector = (on, wantFullscreen) => {
    document.body.classList.toggle("projecting", on);
    if (on && wantFullscreen && document.documentElement.requestFullscreen) {
      document.documentElement.requestFullscreen().catch(() => { /* the large view is enough */ });
    }
    if (!on && document.fullscreenElement) document.exitFullscreen();
    turn(on);
    window.dispatchEvent(new Event("resize"));
    if (on) wake();
  };
  $("projector").addEventListener("click", () => setProjector(true, true));
  $("leave-projector").addEventListener("click", () => setProjector(false));
  document.addEventListener("fullscreenchange", () => { if (!document.fullscreenElement) setProjector(false); });
  document.addEventListener("pointermove", () => { if (document.body.classList.contains("projecting")) wake(); });
  document.addEventListener("keydown", (e) => {
    if (/^(INPUT|TEXTAREA|SELECT)$/.test(e.target.tagName) || e.ctrlKey || e.metaKey || e.altKey) return;
    if (e.key === "Escape") setProjector(false);
    if (e.key === "n") setNight(!document.body.classList.contains("night"));
    if (e.key === "p") setProjector(!document.body.classList.contains("projecting"), true);
  });
  const byAddress = () => { if (/^#projector/.test(window.location.hash)) setProjector(true, false); };
  window.addEventListener("hashchange", byAddress);
  byAddress();
})();
