/* Stars: rings on those that are measured, a table of what varies most, and the light curve of the one that is chosen. */
"use strict";

(() => {
  const $ = (id) => document.getElementById(id);
  const live = window.livestack, viewer = live.viewer, node = live.node;
  const FINGER = 26;  // a tap means a star that is no further than so many screen points
  let open = false, list = null, chosen = null, told = null, shown = null;
  live.stars = { get list() { return list; }, get told() { return told; } };

  const say = (id, text) => { const e = $(id); if (e.textContent !== text) e.textContent = text; };
  const empty = (e) => { while (e.firstChild) e.removeChild(e.firstChild); };

  // --- words ---

  const magnitudes = (mag) => (mag < 0.0995 ? Math.max(1, Math.round(1000 * mag)) + (mag < 0.0015 ? " thousandth" : " thousandths") + " of a magnitude"
    : mag.toFixed(mag < 1 ? 2 : 1) + " magnitudes");
  const sigma = (value) => (value < 100 ? value.toFixed(1) : Math.round(value)) + " σ";
  const since = (hours) => (told.start === null ? "frame " + Math.round(hours) : window.livestackClock(told.start + 3600 * hours));
  const sentence = () => {
    const light = told.light;
    if (light.is === "new") return "Too few measurements so far: " + told.good + ".";
    if (light.is === "clipped") return "Too bright to be measured: its light is clipped.";
    if (light.is === "steady") return "Steady within " + magnitudes(light.mag) + ".";
    if (light.is === "varies") return "Varies by " + magnitudes(light.mag) + ".";
    return (light.is === "faded" ? "Faded by " : "Brightened by ") + magnitudes(light.mag) + " since " + since(light.since) + ".";
  };

  // --- asking: only when there is news, one question at a time ---

  const ask = (address) => window.fetch(address, { credentials: "same-origin" })
    .then((answer) => { if (!answer.ok) throw new Error(answer.status); return answer.json(); });
  let busy = false, again = false;
  const refresh = () => {
    if (!open || !live.status || live.status.stars === null) return;
    if (busy) { again = true; return; }
    busy = true;
    const number = live.status.stars;
    const wants = [ask("stars.json").then((found) => { list = found; })];
    if (chosen) wants.push(askStar());
    Promise.all(wants).then(() => { shown = number; }).catch(() => { again = true; }).then(() => {
      showList();
      viewer.draw();
      window.setTimeout(() => { busy = false; if (again) { again = false; refresh(); } }, 700);
    });
  };
  /* The star that is chosen: by its number, or where it was when the numbers mean other stars by now. */
  const askStar = () => {
    const wish = chosen;
    const by = wish.star === undefined ? "" : "star=" + wish.star + "&key=" + wish.key + "&";
    return ask("star.json?" + by + "x=" + wish.x + "&y=" + wish.y + "&within=" + wish.within).then((found) => {
      if (chosen !== wish) return;
      told = found;
      chosen = { star: found.star, key: found.key, x: found.x, y: found.y, within: 12 };
      showStar();
    }, (error) => {
      if (error.message !== "404") throw error;
      if (chosen === wish) leave(false);
    });
  };

  // --- the table ---

  const showList = () => {
    if (!list) return;
    say("stars-word", list.varying
      ? list.varying + " of " + list.measured + " measured stars " + (list.varying === 1 ? "varies" : "vary") + " in " + list.frames + " frames."
      : "None of " + list.measured + " measured stars varies beyond doubt in " + list.frames + " frames.");
    say("stars-note", "Thousandths of a magnitude; σ says how sure it is. Marked ◎ from " + list.threshold + " σ: " +
      list.false_alarms.charAt(0).toLowerCase() + list.false_alarms.slice(1));
    $("stars-table").hidden = !list.most.length;
    $("stars-note").hidden = !list.most.length;
    const key = JSON.stringify(list.most);
    if ($("stars-rows").dataset.key === key) return;
    $("stars-rows").dataset.key = key;
    const focused = document.activeElement && document.activeElement.dataset.star;
    empty($("stars-rows"));
    for (const star of list.most) {
      const row = document.createElement("tr"), cell = document.createElement("th"), button = node("button", (star.varies ? "◎ " : "") + "Star " + star.star);
      cell.scope = "row";
      button.type = "button";
      button.dataset.star = String(star.star);
      button.setAttribute("aria-label", "Star " + star.star + (star.varies ? ", varies" : "") + ": show its light curve");
      button.addEventListener("click", () => choose({ star: star.star, key: list.key, x: star.x, y: star.y, within: 12 }));
      cell.appendChild(button);
      row.className = star.varies ? "varies" : "";
      row.appendChild(cell);
      for (const value of [star.rms_mmag, star.expected_mmag]) row.appendChild(node("td", value === null ? "–" : value < 10 ? value.toFixed(1) : String(Math.round(value))));
      row.appendChild(node("td", sigma(star.variability)));
      $("stars-rows").appendChild(row);
      if (focused === String(star.star) && !chosen) button.focus();
    }
  };

  // --- one star ---

  const showStar = () => {
    const words = sentence();
    say("star-title", "Star " + told.star);
    say("star-word", words);
    window.livestackCurve($("star-chart"), told, words);
    const flagged = told.points.some((p) => p[3] !== 0);
    say("star-legend", [told.frames_per_point > 1 ? "Each point is the mean of " + told.frames_per_point + " frames." : told.good + " good measurements.",
      flagged ? "Hollow: flagged, does not count." : ""].filter(Boolean).join(" "));
    empty($("star-facts"));
    const fact = (name, value) => { $("star-facts").appendChild(node("dt", name)); $("star-facts").appendChild(node("dd", value)); };
    if (told.variability !== null) fact("Does it vary?", (told.varies ? "yes, " : told.variability < 4 ? "no sign, " : "perhaps, ") + sigma(told.variability));
    if (told.rms_mmag !== null) fact("Scatter", told.rms_mmag.toFixed(1) + " mmag");
    if (told.expected_mmag !== null) fact("Explained by noise", told.expected_mmag.toFixed(1) + " mmag");
    if (told.mag !== null) fact("Mean (instrumental)", told.mag.toFixed(2).replace("-", "−") + " mag");
    fact("Place in the picture", Math.round(told.x) + ", " + Math.round(told.y));
    const place = live.sky.place(told.x, told.y);
    if (place) fact("In the sky", live.sky.sexagesimal(place, 0));
    if (!$("star").hidden) return;
    $("star").hidden = false;
    $("stars-list").hidden = true;
    $("stars").scrollTop = 0;
    $("star-title").focus({ preventScroll: true });
  };
  const choose = (wish) => {
    chosen = wish;
    askStar().then(() => viewer.draw(), () => { if (chosen === wish) { chosen = null; say("stars-word", "No answer; try again."); } });
  };
  /* Back to the table. */
  const leave = (focus) => {
    const before = chosen && chosen.star;
    chosen = told = null;
    $("star").hidden = true;
    $("stars-list").hidden = false;
    viewer.draw();
    if (!focus) return;
    const button = $("stars-rows").querySelector("[data-star='" + before + "']");
    (button || $("stars-title")).focus();
  };

  // --- rings ---

  viewer.overs.push((g) => {
    if (!open || !list) return;
    const ring = (x, y, radius, width, colour) => {
      const at = viewer.toScreen(x, y);
      for (const [w, c] of [[width + 2, "rgba(0, 0, 0, .55)"], [width, colour]]) {
        g.lineWidth = w;
        g.strokeStyle = c;
        g.beginPath();
        g.arc(at[0], at[1], radius, 0, 2 * Math.PI);
        g.stroke();
      }
    };
    const size = Math.min(16, Math.max(6, 5 * viewer.zoom)), drawn = [];
    for (const [, x, y, varies] of list.rings) {
      // Where rings would hide the picture, only the brightest has one; zoom in for the others.
      const crowded = drawn.some((d) => Math.hypot(d[0] - x, d[1] - y) * viewer.zoom < 2.2 * size);
      if (crowded && !varies) continue;
      drawn.push([x, y]);
      ring(x, y, size, varies ? 1.8 : 1, varies ? "#f2b661" : "rgba(190, 205, 225, .75)");
      if (varies) ring(x, y, size + 5, 1.8, "#f2b661");
    }
    if (told) ring(told.x, told.y, size + 11, 2.5, "#fff");
  });
  viewer.taps.push((x, y) => {
    if (!open || !list) return false;
    const at = viewer.toPicture(x, y);
    const near = list.rings.map((r) => [Math.hypot(r[1] - at[0], r[2] - at[1]), r]).sort((a, b) => a[0] - b[0])[0];
    const reach = FINGER / viewer.zoom;
    // A star with a ring goes before a fainter one that is nearer.
    if (near && near[0] <= reach) choose({ star: near[1][0], key: list.key, x: near[1][1], y: near[1][2], within: 12 });
    else choose({ x: at[0].toFixed(1), y: at[1].toFixed(1), within: reach.toFixed(1) });
    return true;
  });

  // --- opening and closing ---

  const show = (on) => {
    if (open === on) return;
    open = on;
    if (on && document.body.classList.contains("open")) $("more").click();
    document.body.classList.toggle("stars", on);
    $("stars-toggle").setAttribute("aria-expanded", on ? "true" : "false");
    $("stars").hidden = !on;
    if (!on) { leave(false); list = null; $("stars-rows").dataset.key = ""; say("stars-word", "Looking…"); }
    window.dispatchEvent(new Event("resize"));
    if (on) refresh();
  };
  const close = () => { show(false); $("stars-toggle").focus(); };
  $("stars-toggle").addEventListener("click", () => show(!open));
  $("stars-close").addEventListener("click", close);
  $("star-back").addEventListener("click", () => leave(true));
  $("more").addEventListener("click", () => { if (open && document.body.classList.contains("open")) show(false); });
  document.addEventListener("keydown", (e) => {
    if (!open || document.body.classList.contains("projecting") || /^(INPUT|TEXTAREA)$/.test(e.target.tagName)) return;
    if (e.key === "Escape") { if (chosen) leave(true); else close(); }
  });
  const follow = (s) => {
    const there = s.stars !== null && s.stars !== undefined;
    $("stars-toggle").hidden = !there;
    if (!there) show(false); else if (open && s.stars !== shown) refresh();
  };
  live.onstatus.push(follow);
  if (live.status) follow(live.status);
})();
