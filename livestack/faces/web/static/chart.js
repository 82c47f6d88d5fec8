"use strict";

/* An empty drawing, and what puts elements into it. */
window.livestackDraw = (svg) => {
  while (svg.firstChild) svg.removeChild(svg.firstChild);
  return (kind, attributes, text) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", kind);
    for (const name of Object.keys(attributes)) element.setAttribute(name, attributes[name]);
    if (text !== undefined) element.textContent = text;
    svg.appendChild(element);
    return element;
  };
};

/* The noise of the stack over that of one frame, falling as 1 / sqrt(N): both axes logarithmic, so that is a straight line. */
window.livestackChart = (svg, points) => {
  const left = 34, right = 292, top = 8, bottom = 146, put = window.livestackDraw(svg);
  const most = Math.max(4, points[points.length - 1][0]);
  const least = Math.min(0.5, 1 / Math.sqrt(most), ...points.map((p) => p[1])) * 0.9;
  const x = (n) => left + (right - left) * Math.log(n) / Math.log(most);
  const y = (v) => top + (bottom - top) * Math.log(1.05 / v) / Math.log(1.05 / least);
  for (let n = 1; n <= most; n *= 4) {
    put("line", { class: "grid", x1: x(n), x2: x(n), y1: top, y2: bottom });
    put("text", { x: x(n), y: bottom + 15, "text-anchor": n === 1 ? "start" : "middle" }, n === 1 ? "1 " + window.livestackWords.T("frames stacked", { n: 1 }) : String(n));
  }
  for (let v = 1, words = ["1", "½", "¼", "⅛", "1⁄16", "1⁄32"], k = 0; v >= least && k < words.length; v /= 2, k++) {
    put("line", { class: "grid", x1: left, x2: right, y1: y(v), y2: y(v) });
    put("text", { x: left - 7, y: y(v) + 4, "text-anchor": "end" }, words[k]);
  }
  put("line", { class: "ideal", x1: x(1), y1: y(1), x2: x(most), y2: y(1 / Math.sqrt(most)) });
  put("polyline", { class: "measured", points: points.map((p) => x(p[0]).toFixed(1) + "," + y(p[1]).toFixed(1)).join(" ") });
  const end = points[points.length - 1];
  put("circle", { class: "dot", cx: x(end[0]), cy: y(end[1]), r: 4.5 });
  svg.setAttribute("aria-label", "After " + end[0] + " frames the noise is " + Math.round(100 * end[1]) +
    " % of that of one frame; the best possible is " + Math.round(100 / Math.sqrt(end[0])) + " %");
};
