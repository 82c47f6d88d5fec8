/* The sky over the picture: names, lines of right ascension and declination, north and east, a scale bar, and the place
   under the cursor or a finger. Nothing of it shows while it is not known where the picture lies. */
"use strict";

(() => {
  const $ = (id) => document.getElementById(id);
  const live = window.livestack, viewer = live.viewer, node = live.node, T = window.livestackWords.T;
  const isHost = Boolean($("host")), FINGER = 18, CHIPS = 10, ROOM = 21000;  // screen points^2 for each name
  let sky = null, wanted = null, chosen = null, drawn = [];
  const shows = { labels: true, grid: false };

  const say = (id, text) => { const e = $(id); if (e.textContent !== text) e.textContent = text; };
  const empty = (e) => { while (e.firstChild) e.removeChild(e.firstChild); };

  // --- from pixels to the sky: TAN with SIP, the numbers are the server's ---

  const rad = Math.PI / 180;
  const toSky = (x, y) => {
    const m = sky.map, u = x - m.x, v = y - m.y;
    let bentU = u, bentV = v, k = 0;
    for (let total = 2; total <= m.order; total++) {
      for (let q = 0; q <= total; q++, k++) {
        const term = Math.pow(u, total - q) * Math.pow(v, q);
        bentU += m.sip[k][0] * term;
        bentV += m.sip[k][1] * term;
      }
    }
    const east = (m.cd[0][0] * bentU + m.cd[0][1] * bentV) * rad, north = (m.cd[1][0] * bentU + m.cd[1][1] * bentV) * rad;
    const ra = m.ra * rad, dec = m.dec * rad, out = Math.cos(dec) - north * Math.sin(dec);
    const alpha = ra + Math.atan2(east, out);
    const delta = Math.atan2(Math.sin(dec) + north * Math.cos(dec), Math.hypot(east, out));
    return [((alpha / rad) % 360 + 360) % 360, delta / rad];
  };
  const two = (n) => String(n).padStart(2, "0");
  const parts = (value, digits) => {
    const scale = Math.pow(10, digits), whole = Math.round(value * 3600 * scale), s = whole % (60 * scale) / scale;
    return [Math.floor(whole / 3600 / scale), two(Math.floor(whole / 60 / scale) % 60), (s < 10 ? "0" : "") + s.toFixed(digits)];
  };
  const sexagesimal = (place, digits) => {
    const [h, m, s] = parts(place[0] / 15, digits + 1), [d, min, sec] = parts(Math.abs(place[1]), digits);
    return two(h % 24) + "h " + m + "m " + s + "s, " + (place[1] < 0 ? "−" : "+") + two(d) + "° " + min + "′ " + sec + "″";
  };
  const degrees = (place) => place[0].toFixed(4) + "°, " + (place[1] < 0 ? "−" : "+") + Math.abs(place[1]).toFixed(4) + "°";
  const inside = (x, y) => x > -0.5 && y > -0.5 && x < viewer.full[0] - 0.5 && y < viewer.full[1] - 0.5;
  live.sky = {
    get told() { return sky; },
    get drawn() { return drawn; },
    place: (x, y) => (sky ? toSky(x, y) : null),
    sexagesimal: sexagesimal,
  };

  // --- painting ---

  const unit = () => (document.body.classList.contains("projecting") ? Math.max(1, viewer.size[1] / 560) : 1);
  const halo = (g, text, x, y, colour) => {
    g.lineJoin = "round";
    g.lineWidth = 3 * unit();
    g.strokeStyle = "rgba(4, 6, 10, .8)";
    g.strokeText(text, x, y);
    g.fillStyle = colour;
    g.fillText(text, x, y);
  };
  const stroke = (g, width, colour) => {
    g.lineWidth = width + 2;
    g.strokeStyle = "rgba(4, 6, 10, .45)";
    g.stroke();
    g.lineWidth = width;
    g.strokeStyle = colour;
    g.stroke();
  };
  const font = (g, size, weight) => { g.font = (weight || "") + " " + size * unit() + "px system-ui, sans-serif"; };
  const meet = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];

  /* What is seen of the picture above the buttons, and where the page's own words lie on it. */
  const layOut = () => {
    const stage = viewer.canvas.getBoundingClientRect(), box = viewer.frameBox;
    const rects = ["tools", "object", "tagline", "counts", "join", "divider-grip", "label-hint"].map((id) => $(id).getBoundingClientRect());
    const [tools, ...words] = rects.map((r) => [r.left - stage.left - 3, r.top - stage.top - 3, r.right - stage.left + 3, r.bottom - stage.top + 3]);
    if (rects[0].height && tools[0] < box[2]) box[3] = Math.min(box[3], tools[1]);
    return [box, words.filter((r, k) => rects[k + 1].height)];
  };

  const paintGrid = (g, box, taken) => {
    font(g, 11.5);
    g.textBaseline = "alphabetic";
    for (const line of sky.grid) {
      g.beginPath();
      const points = line.xy.map((p) => viewer.toScreen(p[0], p[1]));
      points.forEach((p, k) => (k ? g.lineTo(p[0], p[1]) : g.moveTo(p[0], p[1])));
      g.lineWidth = 1;
      g.strokeStyle = "rgba(150, 190, 235, .5)";
      g.stroke();
      line.seen = points;
    }
    for (const line of sky.grid) {
      const wide = g.measureText(line.text).width, high = 13 * unit();
      // Right ascension is written below, declination to the left, or wherever a line enters what is seen.
      const edges = line.of === "ra" ? [3, 1, 0, 2] : [0, 2, 3, 1];
      const boxes = edges.map((edge) => crossing(line.seen, box, edge)).filter(Boolean).map(([x, y]) => {
        const left = Math.min(box[2] - wide - 4, Math.max(box[0] + 4, x + 4)), base = Math.min(box[3] - 4, Math.max(box[1] + high, y - 4));
        return [left, base - high, left + wide, base + 2];
      });
      const free = boxes.find((b) => !taken.some((t) => meet(b, t)));
      if (!free) continue;
      taken.push(free);
      halo(g, line.text, free[0], free[3] - 2, "#b9d2f2");
    }
  };
  /* Where a line crosses an edge of a box: 0 left, 1 top, 2 right, 3 bottom. */
  const crossing = (points, box, edge) => {
    const axis = edge % 2, at = box[edge];
    for (let k = 1; k < points.length; k++) {
      const a = points[k - 1], b = points[k];
      // The picture's own edge is where a line ends.
      const near = Math.abs(a[axis] - at) < 1 ? a : Math.abs(b[axis] - at) < 1 ? b : null;
      if (!near && (a[axis] - at) * (b[axis] - at) >= 0) continue;
      const t = near ? 0 : (at - a[axis]) / (b[axis] - a[axis]), other = 1 - axis;
      const along = near ? near[other] : a[other] + t * (b[other] - a[other]);
      if (along < box[other] || along > box[other + 2]) continue;
      return axis ? [along, at] : [at, along];
    }
    return null;
  };

  const COLOUR = { star: "#d9e4ff", galaxy: "#ffd9a0", cluster: "#b8f0c8", nebula: "#ffb8c8", object: "#e9edf3" };
  /* Common names where there is little room; a second object of the same name is called by its number. */
  const shorten = (labels) => {
    const used = new Set();
    for (const label of labels) {
      const [number, name] = label.name.replace(/\)$/, "").split(" (");
      label.short = name && !used.has(name) ? name : number;
      used.add(name);
    }
  };
  const paintLabels = (g, box, taken) => {
    const [w, h] = viewer.size, size = unit(), most = Math.max(6, Math.round((box[2] - box[0]) * (box[3] - box[1]) / ROOM / size));
    font(g, 13, "500");
    g.textBaseline = "middle";
    drawn = [];
    for (const label of sky.labels) {
      if (drawn.length >= most) break;
      const [x, y] = viewer.toScreen(label.x, label.y);
      if (x < box[0] || y < box[1] || x > box[2] || y > box[3]) continue;
      const radius = Math.max(7 * size, (label.size || 0) * viewer.zoom / 2), text = w < 600 ? label.short : label.name;
      const wide = g.measureText(text).width, half = 9 * size, out = 0.72 * Math.min(radius, 0.45 * Math.min(w, h)) + 4;
      const choices = [[x + out, y - out], [x - out - wide, y - out], [x + out, y + out], [x - out - wide, y + out], [x - wide / 2, y + out + half], [x - wide / 2, y]];
      const free = choices.map(([left, middle]) => [left - 2, middle - half, left + wide + 2, middle + half])
        .find((b) => b[0] >= box[0] && b[1] >= box[1] && b[2] <= box[2] && b[3] <= box[3] && !taken.some((t) => meet(b, t)));
      if (!free) continue;
      taken.push(free);
      drawn.push({ label: label, box: free, x: x, y: y, radius: radius });
      paintMark(g, label, x, y, radius, size);
      halo(g, text, free[0] + 2, (free[1] + free[3]) / 2, COLOUR[label.kind]);
    }
  };
  const paintMark = (g, label, x, y, radius, size) => {
    g.beginPath();
    if (label.kind === "star") {
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        g.moveTo(x + 6 * size * dx, y + 6 * size * dy);
        g.lineTo(x + 11 * size * dx, y + 11 * size * dy);
      }
    } else {
      g.arc(x, y, radius, 0, 2 * Math.PI);
    }
    stroke(g, 1.2 * size, COLOUR[label.kind]);
  };

  /* Below the shade of the head, and below the button that leaves the projector view. */
  const upper = (box) => Math.max(box[1], document.body.classList.contains("awake") ? 60 : 26);
  const paintCompass = (g, box, taken) => {
    const size = unit(), long = 26 * size, x = box[2] - 48 * size, y = upper(box) + 50 * size;
    taken.push([x - 44 * size, y - 48 * size, box[2], y + 44 * size]);
    font(g, 12, "600");
    g.textAlign = "center";
    g.textBaseline = "middle";
    for (const [[dx, dy], letter] of [[sky.north, "N"], [sky.east, "E"]]) {
      const tip = [x + long * dx, y + long * dy], back = 7 * size;
      g.beginPath();
      g.moveTo(x, y);
      g.lineTo(tip[0], tip[1]);
      if (letter === "N") {
        g.moveTo(tip[0] - back * dx + 0.5 * back * dy, tip[1] - back * dy - 0.5 * back * dx);
        g.lineTo(tip[0], tip[1]);
        g.lineTo(tip[0] - back * dx - 0.5 * back * dy, tip[1] - back * dy + 0.5 * back * dx);
      }
      stroke(g, 1.6 * size, "#f2e3c4");
      halo(g, letter, x + (long + 10 * size) * dx, y + (long + 10 * size) * dy, "#f2e3c4");
    }
    g.textAlign = "start";
  };
  const paintBar = (g, box, taken) => {
    const size = unit(), most = Math.min(0.25 * (box[2] - box[0]), 220 * size), right = box[2] - 14 * size, y = upper(box) + 116 * size;
    const fits = sky.bars.filter((b) => b[1] * viewer.zoom <= most);
    const bar = fits[fits.length - 1] || sky.bars[0];
    if (!bar) return;
    const left = right - bar[1] * viewer.zoom;
    taken.push([left - 6, y - 20 * size, box[2], y + 8 * size]);
    g.beginPath();
    g.moveTo(left, y - 4 * size);
    g.lineTo(left, y);
    g.lineTo(right, y);
    g.lineTo(right, y - 4 * size);
    stroke(g, 1.6 * size, "#f2e3c4");
    font(g, 12, "600");
    g.textAlign = "center";
    g.textBaseline = "alphabetic";
    halo(g, bar[0], (left + right) / 2, y - 7 * size, "#f2e3c4");
    g.textAlign = "start";
  };
  const paintChosen = (g) => {
    if (!chosen) return;
    const [x, y] = viewer.toScreen(chosen.x, chosen.y);
    g.beginPath();
    g.arc(x, y, 13, 0, 2 * Math.PI);
    stroke(g, 2, "#fff");
  };
  viewer.overs.push((g) => {
    drawn = [];
    if (!sky || viewer.past) return;
    const [box, taken] = layOut(), all = viewer.frameBox;
    if (box[2] - box[0] < 120 || box[3] - box[1] < 130) return;
    g.save();
    g.beginPath();
    g.rect(all[0], all[1], all[2] - all[0], all[3] - all[1]);
    g.clip();
    paintCompass(g, box, taken);
    paintBar(g, box, taken);
    if (shows.labels) paintLabels(g, box, taken);
    if (shows.grid) paintGrid(g, box, taken);
    paintChosen(g);
    g.restore();
  });

  // --- the card: what was tapped, or the place ---

  const open = (title, facts, x, y) => {
    const place = toSky(x, y);
    chosen = { x: x, y: y };
    say("place-title", title || sexagesimal(place, 0));
    say("place-facts", facts || degrees(place));
    say("place-where", title ? sexagesimal(place, 0) + " · " + degrees(place) : "");
    $("place").hidden = false;
    viewer.draw();
  };
  const close = () => { chosen = null; $("place").hidden = true; viewer.draw(); };
  $("place-close").addEventListener("click", close);
  viewer.taps.push((x, y) => {
    if (!sky) return false;
    const away = (d) => Math.hypot(Math.max(d.box[0] - x, 0, x - d.box[2]), Math.max(d.box[1] - y, 0, y - d.box[3]));
    const near = (d) => Math.min(away(d), Math.hypot(d.x - x, d.y - y));
    const hit = drawn.filter((d) => near(d) <= FINGER).sort((a, b) => near(a) - near(b))[0];
    if (hit) { open(hit.label.name, hit.label.facts, hit.label.x, hit.label.y); return true; }
    if (document.body.classList.contains("stars")) return false;
    const at = viewer.toPicture(x, y);
    if (inside(at[0], at[1])) open(null, null, at[0], at[1]); else close();
    return true;
  });
  viewer.onhover = (at) => {
    const place = isHost && sky && at ? viewer.toPicture(at[0], at[1]) : null, on = place && inside(place[0], place[1]);
    $("cursor").hidden = !on;
    if (on) { const there = toSky(place[0], place[1]); say("cursor", sexagesimal(there, 1) + "  ·  " + degrees(there)); }
  };

  // --- words beside the picture ---

  const angle = (deg) => (deg >= 1.5 ? deg.toFixed(1) + "°" : deg >= 0.05 ? Math.round(deg * 60) + "′" : (deg * 60).toFixed(1) + "′");
  const facts = () => {
    const [width, height] = sky.field, moons = Math.max(width, height) / 0.52;
    const rows = [
      ["Middle", sky.centre_words[0]], ["", sky.centre_words[1]],
      ["Field", angle(width) + " × " + angle(height)],
      ["", moons >= 1.5 ? Math.round(moons) + " full Moons wide" : moons.toFixed(1) + " × the full Moon"],
      ["Scale", sky.scale.toFixed(2) + "″ a pixel"],
      ["Up is", "position angle " + Math.round(sky.rotation) % 360 + "°" + (sky.mirrored ? ", mirrored" : "")],
    ];
    if (isHost) rows.push(["Solved by", sky.solver + ", " + sky.n_stars + " stars" + (sky.rms_arcsec === null ? "" : ", " + sky.rms_arcsec.toFixed(2) + "″")]);
    if (isHost && sky.zero_point !== null) rows.push(["Zero point", sky.zero_point.toFixed(2) + " mag"]);
    return rows;
  };
  const showWords = () => {
    const looking = /^You are looking at (.*)\.$/.exec(sky.looking_at);
    say("sky-word", looking && window.livestackWords.lang !== "en" ? T("You are looking at {what}.", { what: looking[1] }) : sky.looking_at);
    const list = $("sky-facts");
    empty(list);
    for (const [name, value] of facts()) { list.appendChild(node("dt", name)); list.appendChild(node("dd", value)); }
    say("sky-note", sky.catalogue ? "Names and facts: OpenNGC, CC BY-SA 4.0; Gaia DR3, Hipparcos" : "Only stars have names here; for galaxies, nebulae and clusters the host installs the catalogue: pip install livestack[catalogue]");
    const chips = $("sky-list"), key = JSON.stringify(sky.labels.slice(0, CHIPS));
    if (chips.dataset.key !== key) {
      chips.dataset.key = key;
      empty(chips);
      for (const label of sky.labels.slice(0, CHIPS)) {
        const item = document.createElement("li"), button = node("button", label.short);
        button.type = "button";
        button.addEventListener("click", () => {
          if (window.innerWidth < 900 && document.body.classList.contains("open")) $("more").click();
          open(label.name, label.facts, label.x, label.y);
        });
        item.appendChild(button);
        chips.appendChild(item);
      }
    }
    showDepth();
  };
  const showDepth = () => {
    $("depth").hidden = sky.limit_mag === null && sky.sky_mag === null;
    const limits = sky.limits, gain = limits.length > 1 && sky.limit_mag !== null ? sky.limit_mag - limits[0][1] : 0;
    say("depth-word", sky.limit_mag === null ? "" : T("Faintest star now: {n} mag", { n: sky.limit_mag.toFixed(1) }));
    const since = limits.length && limits[0][0] > 1 ? "first " + limits[0][0] + " frames" : "first frame";
    const times = Math.pow(10, 0.4 * gain);
    say("depth-more", [sky.limit_words ? sky.limit_words.charAt(0).toUpperCase() + sky.limit_words.slice(1) + "." : "",
      gain >= 0.05 ? gain.toFixed(1) + " mag fainter than after the " + since + ": stars with " + times.toFixed(1) + " times less light." : ""].filter(Boolean).join(" "));
    say("dark-word", sky.sky_mag === null ? "" : "The sky shines with " + sky.sky_mag.toFixed(1) + " mag/arcsec²: " + sky.sky_words + ".");
  };

  // --- asking, and the buttons ---

  const remembered = (name, value) => {
    try { if (value === undefined) return window.localStorage.getItem(name); window.localStorage.setItem(name, value); } catch (e) { /* private mode */ }
    return null;
  };
  const set = (name, on) => {
    shows[name] = on;
    $(name).setAttribute("aria-pressed", on ? "true" : "false");
    viewer.draw();
  };
  for (const name of ["labels", "grid"]) {
    const before = remembered(name);
    set(name, before === null ? shows[name] : before === "1");
    $(name).addEventListener("click", () => { set(name, !shows[name]); remembered(name, shows[name] ? "1" : ""); });
  }
  document.addEventListener("keydown", (e) => {
    if (!sky || /^(INPUT|TEXTAREA)$/.test(e.target.tagName) || e.ctrlKey || e.metaKey || e.altKey) return;
    if (e.key === "l") $("labels").click();
    if (e.key === "g") $("grid").click();
    if (e.key === "Escape" && chosen) close();
  });
  const put = (told) => {
    sky = told;
    for (const id of ["labels", "grid", "sky"]) $(id).hidden = !sky;
    document.body.classList.toggle("solved", Boolean(sky));
    if (sky) { shorten(sky.labels); showWords(); } else { $("depth").hidden = $("cursor").hidden = true; if (chosen) close(); }
    viewer.draw();
  };
  const ask = (number) => window.fetch("sky.json?" + number, { credentials: "same-origin" })
    .then((answer) => { if (!answer.ok) throw new Error(answer.status); return answer.json(); })
    .then((told) => { if (wanted === number) put(told); })
    .catch(() => { window.setTimeout(() => { if (wanted === number) ask(number); }, 3000); });
  const follow = (s) => {
    const number = s.sky === undefined ? null : s.sky;
    if (number === wanted) return;
    wanted = number;
    if (number === null) put(null); else ask(number);
  };
  live.onstatus.push(follow);
  if (live.status) follow(live.status);
})();
