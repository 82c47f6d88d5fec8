/* How stars are smeared: their size, and how it changes across the field. */
"use strict";

(() => {
  const $ = (id) => document.getElementById(id);
  const host = window.livestackHost, node = window.livestack.node;

  const words = (psf) => "Stars are " + psf.fwhm_px.toFixed(2) + " px wide (FWHM)" + (psf.fwhm_arcsec !== null ? ", " + psf.fwhm_arcsec.toFixed(2) + "″" : "") +
    ": " + psf.fwhm_x_px.toFixed(2) + " × " + psf.fwhm_y_px.toFixed(2) + " px, eccentricity " + psf.eccentricity.toFixed(2) + (psf.beta !== null ? ", Moffat β " + psf.beta.toFixed(1) : "") + "; " + psf.n_stars + " stars.";

  const draw = (psf) => {
    $("host-psf-word").textContent = psf ? words(psf) : "Not measured yet.";
    const map = psf && psf.map, svg = $("host-map");
    svg.toggleAttribute("hidden", !map);
    host.fill($("host-map-words"), map ? map.words.map((said) => node("li", said)) : []);
    if (!map) return;
    const put = window.livestackDraw(svg), w = 300 / map.columns, h = 200 / map.rows;
    const known = map.cells.map((cell) => cell[0]).filter((v) => v !== null), low = Math.min(...known), high = Math.max(...known);
    map.cells.forEach(([fwhm, ratio, theta, n], k) => {
      const x = (k % map.columns) * w, y = Math.floor(k / map.columns) * h, share = fwhm === null || high - low < 1e-6 ? 0 : (fwhm - low) / (high - low);
      put("rect", { class: "cell", x: x, y: y, width: w - 2, height: h - 2, "fill-opacity": fwhm === null ? 0 : (0.08 + 0.34 * share).toFixed(2) });
      if (fwhm === null) return;
      const long = Math.min(w, h) * 0.2 * Math.sqrt(fwhm / low), flat = Math.max(1, ratio || 1);
      put("ellipse", { class: "star", cx: 0, cy: 0, rx: long * Math.sqrt(flat), ry: long / Math.sqrt(flat), transform: "translate(" + (x + w / 2) + " " + (y + h / 2 - 8) + ") rotate(" + (theta || 0) + ")" });
      put("text", { x: x + w / 2, y: y + h - 8, "text-anchor": "middle" }, fwhm.toFixed(2));
    });
    svg.setAttribute("aria-label", "Star size across the field: from " + low.toFixed(2) + " to " + high.toFixed(2) + " px. " + map.words.join(" "));
  };
  host.onstate.push((s) => { if ($("host-psf").open && host.changed("psf", s.psf)) draw(s.psf); });
})();
