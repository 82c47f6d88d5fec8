/* The night frame by frame: charts, the table with thumbnails and reasons, one frame in full, light and goals. Only
   frames that are new are asked for; what was taken out is asked for anew. */
"use strict";

(() => {
  const $ = (id) => document.getElementById(id);
  const live = window.livestack, host = window.livestackHost, node = live.node;
  let rows = [], columns = {}, last = -1, removed = 0, loading = false, most = 60;

  const value = (row, name) => row[columns[name]];
  const load = (s) => {
    if (loading) return;
    if (s.removed !== removed) { removed = s.removed; rows = []; last = -1; }
    if (s.newest <= last) return;
    loading = true;
    window.fetch("host/night.json" + (last < 0 ? "" : "?after=" + last), { cache: "no-store", credentials: "same-origin" }).then((answer) => answer.json()).then((told) => {
      told.columns.forEach((name, k) => { columns[name] = k; });
      rows = rows.concat(told.rows);
      if (told.rows.length) last = value(told.rows[told.rows.length - 1], "frame");
      loading = false;
      if (told.more) load(s); else draw();
    }).catch(() => { loading = false; });
  };
  host.onstate.push((s) => {
    load(s);
    if ($("host-light").open && host.changed("light", [s.goals, s.exposure])) drawLight(s);
  });
  const draw = () => {
    const refused = rows.filter((row) => !value(row, "stacked")).length;
    $("host-frame-count").textContent = rows.length ? rows.length + (refused ? ", " + refused + " left out" : "") : "";
    if ($("host-frames").open) drawTable();
    if ($("host-charts").open) drawCharts();
  };
  $("host-frames").addEventListener("toggle", draw);
  $("host-charts").addEventListener("toggle", draw);

  // --- the table ---

  const drawTable = () => {
    const only = $("host-only-refused").checked, chosen = rows.filter((row) => !only || !value(row, "stacked")).reverse();
    const known = new Map(Array.from($("host-frame-rows").children, (row) => [row.dataset.key, row]));
    host.fill($("host-frame-rows"), chosen.slice(0, most).map((row) => {
      const key = value(row, "frame") + (value(row, "stacked") ? "+" : "-");
      return known.get(key) || frameRow(row, key);
    }));
    $("host-more-frames").hidden = chosen.length <= most;
  };
  $("host-only-refused").addEventListener("change", drawTable);
  $("host-more-frames").addEventListener("click", () => { most += 120; drawTable(); });

  const number = (v, digits) => (v === null ? "–" : v.toFixed(digits));
  const frameRow = (f, key) => {
    const row = document.createElement("tr"), seen = document.createElement("td"), name = document.createElement("td"), end = document.createElement("td");
    row.dataset.key = key;
    row.className = value(f, "stacked") ? "stacked" : "refused";
    const look = document.createElement("button"), picture = document.createElement("img");
    look.type = "button";
    look.className = "thumb";
    look.setAttribute("aria-label", "Show " + value(f, "file"));
    picture.alt = "";
    picture.loading = "lazy";
    picture.width = 64;
    picture.height = 44;
    if (value(f, "file_there")) picture.src = "host/frame/" + value(f, "frame") + ".jpg";
    look.appendChild(picture);
    look.addEventListener("click", () => open(f));
    seen.appendChild(look);
    name.appendChild(node("span", value(f, "file")));
    row.appendChild(seen);
    row.appendChild(name);
    if (!value(f, "stacked")) {
      name.colSpan = 3;
      const why = node("span", value(f, "message") || "left out");
      why.className = "why";
      name.appendChild(why);
      return row;
    }
    row.appendChild(node("td", number(value(f, "fwhm_px"), 2)));
    const out = node("button", "Take out");
    out.type = "button";
    out.setAttribute("aria-label", "Take out " + value(f, "file"));
    out.addEventListener("click", () => { out.disabled = true; host.ask("remove", { text: value(f, "file") }); });
    end.appendChild(out);
    row.appendChild(end);
    return row;
  };

  // --- one frame, every pixel ---

  let shown = null;
  const open = (f) => {
    shown = f;
    $("host-frame-title").textContent = value(f, "file");
    const facts = [value(f, "time") ? window.livestackClock(value(f, "time")) : "", value(f, "stacked") ? "stacked" : value(f, "message") || "left out",
      value(f, "fwhm_px") !== null ? "FWHM " + value(f, "fwhm_px").toFixed(2) + " px" : "", value(f, "transparency") !== null ? Math.round(100 * value(f, "transparency")) + " % clear" : "",
      value(f, "stars") ? value(f, "stars") + " stars" : ""];
    $("host-frame-facts").textContent = facts.filter(Boolean).join(" · ");
    $("host-frame-image").alt = "Single frame " + value(f, "file");
    $("host-frame-image").src = "host/frame/" + value(f, "frame") + ".jpg?full=1";
    if (!$("host-frame").open) $("host-frame").showModal();
  };
  const step = (by) => { const next = rows[rows.indexOf(shown) + by]; if (next) open(next); };
  $("host-newest").addEventListener("click", () => { if (rows.length) open(rows[rows.length - 1]); });
  $("host-frame-before").addEventListener("click", () => step(-1));
  $("host-frame-after").addEventListener("click", () => step(1));
  $("host-frame-close").addEventListener("click", () => $("host-frame").close());
  $("host-frame").addEventListener("keydown", (e) => {
    if (e.target.closest(".pan") && e.key.startsWith("Arrow")) return;
    if (e.key === "ArrowLeft") step(-1);
    if (e.key === "ArrowRight") step(1);
    e.stopPropagation();
  });

  // --- charts ---

  const CHARTS = [
    ["fwhm_px", "Star size (FWHM), px"], ["sky_adu", "Sky, ADU"], ["transparency", "Transparency"], ["stars", "Stars"],
    ["dx_px", "Drift, px", "dy_px"],
  ];
  const MOST_POINTS = 500;
  const drawCharts = () => {
    if (rows.length < 3) return;
    const list = $("host-chart-list");
    if (!list.querySelector("svg")) {
      host.fill(list, [...CHARTS.map((c) => c[1]), "Left out, by reason"].map((title) => {
        const figure = document.createElement("figure"), svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
        svg.setAttribute("viewBox", "0 0 320 110");
        svg.setAttribute("role", "img");
        svg.setAttribute("class", "trend");
        const caption = node("figcaption", title);
        caption.className = "small";
        figure.appendChild(caption);
        figure.appendChild(svg);
        return figure;
      }));
    }
    // A long night is thinned: what was left out stays, and every so many of the rest.
    const every = Math.ceil(rows.length / MOST_POINTS), shown = rows.filter((row, k) => k % every === 0 || !value(row, "stacked") || k === rows.length - 1);
    const all = list.querySelectorAll("svg"), timed = shown.every((row) => value(row, "time") !== null);
    const x = shown.map((row, k) => (timed ? value(row, "time") : k + 1));
    const first = Math.min(...x), span = Math.max(...x) - first || 1;
    const place = (v) => 46 + 266 * (v - first) / span;
    CHARTS.forEach(([name, title, second], k) => trend(all[k], shown, title, x, place, timed, [name, second].filter(Boolean)));
    reasons(all[CHARTS.length]);
  };

  const trend = (svg, shown, title, x, place, timed, names) => {
    const put = window.livestackDraw(svg), top = 8, bottom = 84;
    const points = names.map((name) => shown.map((row, k) => [x[k], value(row, name), value(row, "stacked")]).filter((p) => p[1] !== null));
    const all = points.flat().map((p) => p[1]);
    if (!all.length) { put("text", { x: 160, y: 50, "text-anchor": "middle" }, "not measured"); svg.setAttribute("aria-label", title + ": not measured"); return; }
    const low = Math.min(...all), high = Math.max(...all), room = (high - low) * 0.08 || Math.abs(high) * 0.05 || 1;
    const y = (v) => bottom - (bottom - top) * (v - low + room) / (high - low + 2 * room);
    const say = (v) => (Math.abs(v) >= 100 ? Math.round(v).toLocaleString("en") : v.toFixed(Math.abs(v) >= 10 ? 1 : 2));
    for (const v of [low, (low + high) / 2, high]) {
      put("line", { class: "grid", x1: 46, x2: 312, y1: y(v), y2: y(v) });
      put("text", { x: 42, y: y(v) + 4, "text-anchor": "end" }, say(v));
    }
    const ends = [Math.min(...x), Math.max(...x)];
    ends.forEach((v, k) => put("text", { x: place(v), y: 102, "text-anchor": k ? "end" : "start" }, timed ? window.livestackClock(v) : "frame " + v));
    points.forEach((series, k) => {
      for (const [at, v, stacked] of series) {
        if (stacked) put("circle", { class: k ? "second" : "first", cx: place(at).toFixed(1), cy: y(v).toFixed(1), r: series.length > 300 ? 1.1 : 2 });
        else put("path", { class: "refused", d: "M" + (place(at) - 3).toFixed(1) + " " + (y(v) - 3).toFixed(1) + "l6 6m0-6l-6 6" });
      }
    });
    const newest = points[0][points[0].length - 1];
    svg.setAttribute("aria-label", title + ": from " + say(low) + " to " + say(high) + ", now " + say(newest[1]) + (names.length > 1 ? "; filled along x, open along y" : "") + "; crosses were left out");
  };

  const reasons = (svg) => {
    const counted = new Map();
    for (const row of rows) if (!value(row, "stacked")) { const why = (value(row, "reason") || "unknown").replace(/_/g, " "); counted.set(why, (counted.get(why) || 0) + 1); }
    const listed = Array.from(counted).sort((a, b) => b[1] - a[1]).slice(0, 5), put = window.livestackDraw(svg);
    if (!listed.length) { put("text", { x: 46, y: 30 }, "nothing"); svg.setAttribute("aria-label", "Nothing was left out"); return; }
    const largest = listed[0][1];
    listed.forEach(([why, n], k) => {
      put("text", { x: 118, y: 18 + 20 * k, "text-anchor": "end" }, why);
      put("rect", { class: "bar", x: 124, y: 7 + 20 * k, width: Math.max(2, 150 * n / largest), height: 14, rx: 3 });
      put("text", { x: 130 + 150 * n / largest, y: 18 + 20 * k }, String(n));
    });
    svg.setAttribute("aria-label", "Left out: " + listed.map(([why, n]) => n + " for " + why).join(", "));
  };

  // --- light and goals ---

  const drawLight = (s) => {
    const filters = Array.from(new Set([...Object.keys(s.exposure), ...Object.keys(s.goals)])).sort();
    host.fill($("host-goals"), filters.map((name) => {
      const item = document.createElement("li"), goal = s.goals[name] || 0, done = s.exposure[name] || 0;
      const words = (name || "Light") + " " + live.duration(done) + (goal ? " of " + live.duration(goal) : "");
      item.appendChild(node("span", words));
      if (goal) {
        const bar = document.createElement("progress");
        bar.max = goal;
        bar.value = Math.min(goal, done);
        bar.setAttribute("aria-label", words);
        item.appendChild(bar);
      }
      const form = document.createElement("form"), label = node("label", "Goal, hours "), input = document.createElement("input"), set = node("button", "Set");
      input.type = "number";
      input.min = "0";
      input.step = "0.25";
      input.max = "1000";
      input.value = goal ? String(Math.round(goal / 36) / 100) : "";
      label.appendChild(input);
      form.appendChild(label);
      form.appendChild(set);
      form.addEventListener("submit", (e) => { e.preventDefault(); host.ask("goal", { filter: name, seconds: Math.round(3600 * Number(input.value)) }); input.blur(); });
      item.appendChild(form);
      return item;
    }));
  };
  $("host-light").addEventListener("toggle", () => { host.changed("light", null); host.refresh(); });
})();
