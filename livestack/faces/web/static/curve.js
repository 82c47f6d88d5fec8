/* One star's light through the night: brighter is up, local time to the right, a dashed line at its mean. */
"use strict";

window.livestackCurve = (svg, told, sentence) => {
  const left = 44, right = 310, top = 18, bottom = 150, put = window.livestackDraw(svg);
  svg.setAttribute("aria-label", "Light curve: " + sentence);
  const good = told.points.filter((p) => p[3] === 0), points = good.length ? good : told.points;
  if (!points.length) return;

  // --- the scales: a little room around what was measured, never finer than the errors ---

  const errors = points.map((p) => p[2]).sort((a, b) => a - b), error = errors[Math.floor(errors.length / 2)];
  const least = Math.max(0.004, 3 * error);
  let high = Math.min(-least, ...points.map((p) => p[1] - p[2])), low = Math.max(least, ...points.map((p) => p[1] + p[2]));
  const room = 0.06 * (low - high);
  high -= room; low += room;
  const hours = told.points.map((p) => p[0]);
  const first = Math.min(...hours), span = Math.max(Math.max(...hours) - first, told.start === null ? 4 : 0.1);
  const x = (h) => left + (right - left) * (0.02 + 0.96 * (h - first) / span);
  const y = (mag) => top + (bottom - top) * (mag - high) / (low - high);

  // --- grid ---

  const nice = (range, most) => { let step = 1e-3; for (let k = 0; range / step > most; k++) step *= k % 3 === 1 ? 2.5 : 2; return step; };
  const step = nice(low - high, 5), digits = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9));
  for (let k = Math.ceil(high / step); k * step <= low; k++) {
    put("line", { class: k ? "grid" : "mean", x1: left, x2: right, y1: y(k * step), y2: y(k * step) });
    put("text", { x: left - 6, y: y(k * step) + 4, "text-anchor": "end" }, k ? (k < 0 ? "+" : "−") + Math.abs(k * step).toFixed(digits) : "mean");
  }
  put("text", { x: left, y: 10, class: "end" }, "↑ brighter, mag");
  if (told.start === null) {
    const every = Math.max(1, Math.ceil(span / 5));
    for (let k = Math.ceil(first / every) * every; k <= first + span; k += every) {
      put("text", { x: x(k), y: bottom + 16, "text-anchor": "middle" }, k === Math.ceil(first / every) * every ? "frame " + k : String(k));
    }
  } else {
    const minutes = [2, 5, 10, 15, 30, 60, 120, 180, 240, 360].find((m) => 60 * span / m <= 5) || 720;
    const begin = new Date((told.start + 3600 * first) * 1000), tick = new Date(begin);
    tick.setHours(0, 0, 0, 0);
    const from = Math.ceil((begin - tick) / 60000 / minutes);
    for (let k = from; k < from + 7; k++) {
      const at = x((tick.getTime() / 1000 + 60 * k * minutes - told.start) / 3600);
      if (at < left || at > right) continue;
      put("line", { class: "grid", x1: at, x2: at, y1: top, y2: bottom });
      put("text", { x: Math.min(at, right - 8), y: bottom + 16, "text-anchor": "middle" }, window.livestackClock(tick.getTime() / 1000 + 60 * k * minutes));
    }
    put("text", { x: right, y: bottom + 31, "text-anchor": "end", class: "end" }, "local time");
  }

  // --- points: flagged ones hollow, and only where they fit in ---

  const few = told.points.length <= 150, radius = few ? 2.4 : told.points.length <= 400 ? 1.7 : 1.2;
  for (const [h, mag, e, flag] of told.points) {
    if (mag < high || mag > low) continue;
    if (few && !flag) put("line", { class: "error", x1: x(h), x2: x(h), y1: y(Math.max(high, mag - e)), y2: y(Math.min(low, mag + e)) });
    put("circle", { class: flag ? "flagged" : "point", cx: x(h).toFixed(1), cy: y(mag).toFixed(1), r: radius });
  }
};

/* Hours and minutes where the visitor is, of seconds since 1970. */
window.livestackClock = (seconds) => {
  const at = new Date(seconds * 1000);
  return String(at.getHours()).padStart(2, "0") + ":" + String(at.getMinutes()).padStart(2, "0");
};
