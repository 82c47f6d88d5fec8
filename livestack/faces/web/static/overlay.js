/* A transparent strip for a live broadcast (a browser source of OBS): what is seen, how many frames, how much light. */
"use strict";

(() => {
  const $ = (id) => document.getElementById(id);
  const { T, lang, ready } = window.livestackWords;
  const duration = (seconds) => {
    const whole = Math.round(seconds || 0), h = Math.floor(whole / 3600), m = Math.floor(whole / 60) % 60;
    return h ? h + " h " + String(m).padStart(2, "0") + " min" : m ? m + " min" : whole + " s";
  };
  const show = (s) => {
    const last = s.noise[s.noise.length - 1];
    $("strip").hidden = !s.frames;
    $("object").textContent = (s.card && s.card.common_name) || s.object || T("Live from the telescope");
    $("frames").textContent = s.frames.toLocaleString(lang);
    $("frames-word").textContent = T("frames stacked", { n: s.frames });
    $("exposure").textContent = T("{time} of light", { time: duration(s.exposure_total) });
    $("noise").textContent = last && s.frames > 1 ? T("After {n} frames only {share} % of one frame's noise is left.", { n: last[0], share: Math.round(100 * last[1]) }) : "";
    $("note").textContent = s.note;
    document.body.dataset.frames = String(s.frames);
  };
  const listen = () => {
    const source = new EventSource("events");
    source.onmessage = (e) => show(JSON.parse(e.data));
    // A browser gives up after an answer such as "no session is running": try again.
    source.onerror = () => { if (source.readyState === 2) window.setTimeout(listen, 5000); };
  };
  ready.then(listen);
})();
