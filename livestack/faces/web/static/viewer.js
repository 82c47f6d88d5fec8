/* The picture: zoom and pan to true pixels, and a divider between one raw frame (left) and the stack (right).
   Coordinates are true pixels of the stack; `zoom` is screen points for one true pixel. */
"use strict";

window.LivestackViewer = class {
  constructor(canvas, divider) {
    this.canvas = canvas;
    this.divider = divider;
    this.context = canvas.getContext("2d", { alpha: false });
    this.full = [0, 0];
    this.stack = null;
    this.frame = null;
    this.past = null;
    this.tilePrefix = null;
    this.tiles = new Map();
    this.zoom = 0;
    this.centre = [0, 0];
    this.fitting = true;
    this.split = 0;
    this.wanted = { stack: null, frame: null, past: null };
    this.pointers = new Map();
    this.drawing = false;
    this.later = null;
    this.onview = () => {};
    this.onsplit = () => {};
    this.overs = [];  // each paints over the picture: over(context)
    this.taps = [];  // each may take a tap: where tap(x, y) is true, those after it are not asked
    this.onhover = () => {};
    this._listen();
    this._resize();
  }

  // --- what to show ---

  setFull(width, height) {
    if (width === this.full[0] && height === this.full[1]) return;
    this.full = [width, height];
    this.tiles.clear();
    this.fit();
  }

  /* Load a picture; the old one stays until the new one is there, and only the newest wish is drawn. */
  setPicture(kind, url) {
    if (this.wanted[kind] === url) return;
    this.wanted[kind] = url;
    if (!url) { this[kind] = null; this.draw(); return; }
    const image = new Image();
    image.onload = () => { if (this.wanted[kind] === url) { this[kind] = image; this.draw(); } };
    image.onerror = () => {
      if (this.wanted[kind] !== url) return;
      this.wanted[kind] = null;
      window.setTimeout(() => { if (this.wanted[kind] === null) this.setPicture(kind, url); }, 2000);
    };
    image.src = url;
  }

  setTiles(prefix) {
    this.tilePrefix = prefix;
    this.draw();
  }

  // --- the view ---

  get size() { return [this.canvas.clientWidth, this.canvas.clientHeight]; }

  get fitZoom() {
    const [w, h] = this.size;
    return this.full[0] ? Math.min(w / this.full[0], h / this.full[1]) : 1;
  }

  /* The view to come home to: all of the picture; on an upright phone larger, so that it fills more of the screen. */
  get homeZoom() {
    const [w, h] = this.size;
    return h > 1.2 * w && this.full[0] ? Math.min(1.5 * this.fitZoom, Math.max(w / this.full[0], h / this.full[1])) : this.fitZoom;
  }

  /* Device pixels for one screen point, as far as detail in a noisy sky is worth the bytes. */
  get detail() { return Math.min(2, this.ratio); }

  /* True where the small picture has all the detail that the home view can show. */
  get isSmall() { return Math.max(this.full[0], this.full[1]) * this.homeZoom * this.detail <= 1400; }

  fit() {
    this.fitting = true;
    this.zoom = this.homeZoom;
    this.centre = [this.full[0] / 2, this.full[1] / 2];
    this.draw();
  }

  /* Zoom to `zoom` so that the true pixel under the screen point (x, y) stays there. */
  zoomTo(zoom, x, y) {
    const [w, h] = this.size;
    const least = this.fitZoom, most = Math.max(4, least * 2);
    const next = Math.min(most, Math.max(least, zoom));
    const px = this.centre[0] + (x - w / 2) / this.zoom, py = this.centre[1] + (y - h / 2) / this.zoom;
    this.zoom = next;
    this.centre = [px - (x - w / 2) / next, py - (y - h / 2) / next];
    this.fitting = Math.abs(next / this.homeZoom - 1) < 0.001;
    this._keepInside();
    this.draw();
  }

  toggle(x, y) {
    if (this.fitting) this.zoomTo(Math.max(1, this.homeZoom * 2), x, y); else this.fit();
  }

  pan(dx, dy) {
    if (!this.zoom) return;
    this.centre = [this.centre[0] - dx / this.zoom, this.centre[1] - dy / this.zoom];
    this._keepInside();
    this.draw();
  }

  _keepInside() {
    const size = this.size;
    for (let k = 0; k < 2; k++) {
      const half = size[k] / 2 / this.zoom;
      this.centre[k] = 2 * half >= this.full[k] ? this.full[k] / 2 : Math.min(this.full[k] - half, Math.max(half, this.centre[k]));
    }
  }

  /* Left and right end of what is seen of the picture; the divider moves between them. */
  get span() {
    const w = this.size[0];
    if (!this.full[0] || !this.zoom) return [0, w];
    const left = w / 2 - this.centre[0] * this.zoom;
    return [Math.max(0, left), Math.min(w, left + this.full[0] * this.zoom)];
  }

  /* Screen point of a true pixel, counted from 0 at the centre of the first, and back. */
  toScreen(x, y) {
    const [w, h] = this.size;
    return [w / 2 + (x + 0.5 - this.centre[0]) * this.zoom, h / 2 + (y + 0.5 - this.centre[1]) * this.zoom];
  }

  toPicture(x, y) {
    const [w, h] = this.size;
    return [this.centre[0] + (x - w / 2) / this.zoom - 0.5, this.centre[1] + (y - h / 2) / this.zoom - 0.5];
  }

  /* Left, top, right and bottom of what is seen of the picture. */
  get frameBox() {
    const [w, h] = this.size, first = this.toScreen(-0.5, -0.5), last = this.toScreen(this.full[0] - 0.5, this.full[1] - 0.5);
    return [Math.max(0, first[0]), Math.max(0, first[1]), Math.min(w, last[0]), Math.min(h, last[1])];
  }

  get splitPlace() { const [left, right] = this.span; return left + this.split * (right - left); }

  setSplit(fraction) {
    this.split = Math.min(1, Math.max(0, fraction));
    this.divider.classList.add("used");
    this.onsplit();
    this.draw();
  }

  // --- drawing ---

  draw() {
    if (this.drawing) return;
    this.drawing = true;
    window.requestAnimationFrame(() => { this.drawing = false; this._paint(); });
  }

  _paint() {
    const [w, h] = this.size, ratio = this.ratio, g = this.context;
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.fillStyle = "#07090d";
    g.fillRect(0, 0, w, h);
    const right = this.past || this.stack;
    if (this.full[0] && this.zoom) {
      const x = w / 2 - this.centre[0] * this.zoom, y = h / 2 - this.centre[1] * this.zoom;
      const width = this.full[0] * this.zoom, height = this.full[1] * this.zoom;
      g.imageSmoothingEnabled = true;
      g.imageSmoothingQuality = "high";
      if (right) {
        g.drawImage(right, x, y, width, height);
        if (!this.past) this._paintTiles(g, x, y, w, h, right);
      }
      if (this.frame && this.split > 0) {
        g.save();
        g.beginPath();
        g.rect(0, 0, this.splitPlace, h);
        g.clip();
        g.drawImage(this.frame, x, y, width, height);
        g.restore();
      }
    }
    if (this.full[0] && this.zoom && right) for (const over of this.overs) over(g);
    this.divider.hidden = !(this.frame && right);
    this._placeDivider(w, h);
    this.onview(this);
  }

  _placeDivider(w, h) {
    const percent = Math.round(100 * this.split);
    const above = Math.min(h / 2 - 60, Math.max(0, h / 2 - this.centre[1] * this.zoom));
    const below = Math.min(h / 2 - 60, Math.max(0, h / 2 - (this.full[1] - this.centre[1]) * this.zoom));
    this.divider.style.top = Math.max(0, above) + "px";
    this.divider.style.bottom = Math.max(0, below) + "px";
    // At the ends the grip stays on the screen.
    this.divider.style.left = Math.min(w - 26, Math.max(26, this.splitPlace)) + "px";
    this.divider.classList.toggle("at-start", percent <= 3);
    this.divider.classList.toggle("at-end", percent >= 97);
    this.divider.setAttribute("aria-valuenow", String(percent));
    this.divider.setAttribute("aria-valuetext", percent ? percent + " % single frame" : "only the stack");
  }

  /* True pixels where the preview is too coarse; an old tile stays until its successor is there. */
  _paintTiles(g, x, y, w, h, preview) {
    const side = 512;
    if (!this.tilePrefix || this.zoom * this.detail <= 1.1 * preview.naturalWidth / this.full[0]) return;
    if (this.zoom > 1.5) g.imageSmoothingEnabled = this.zoom < 3;
    const first = [Math.max(0, Math.floor(-x / this.zoom / side)), Math.max(0, Math.floor(-y / this.zoom / side))];
    const last = [
      Math.min(Math.ceil(this.full[0] / side) - 1, Math.floor((w - x) / this.zoom / side)),
      Math.min(Math.ceil(this.full[1] / side) - 1, Math.floor((h - y) / this.zoom / side)),
    ];
    for (let row = first[1]; row <= last[1]; row++) {
      for (let column = first[0]; column <= last[0]; column++) {
        const tile = this._tile(column, row);
        if (!tile.image) continue;
        const tx = x + column * side * this.zoom, ty = y + row * side * this.zoom;
        g.drawImage(tile.image, tx, ty, tile.image.naturalWidth * this.zoom, tile.image.naturalHeight * this.zoom);
      }
    }
    if (this.tiles.size > 96) {
      for (const key of Array.from(this.tiles.keys()).slice(0, this.tiles.size - 96)) this.tiles.delete(key);
    }
  }

  _tile(column, row) {
    const key = column + "-" + row, now = Date.now();
    const tile = this.tiles.get(key) || { image: null, prefix: null, asked: 0, loading: false };
    this.tiles.delete(key);
    this.tiles.set(key, tile);
    if (tile.prefix === this.tilePrefix || tile.loading) return tile;
    const early = (tile.image ? 2000 : 1000) - (now - tile.asked);
    if (early > 0) {
      this._drawLater(early);
    } else {
      const prefix = this.tilePrefix, image = new Image();
      tile.asked = now;
      tile.loading = true;
      image.onload = () => { tile.image = image; tile.prefix = prefix; tile.loading = false; this.draw(); };
      image.onerror = () => { tile.loading = false; this._drawLater(1000); };
      image.src = prefix + key + ".jpg";
    }
    return tile;
  }

  _drawLater(pause) {
    if (this.later) return;
    this.later = window.setTimeout(() => { this.later = null; this.draw(); }, pause + 20);
  }

  /* How many tiles in view show true pixels; for those who want to know that it is sharp now. */
  get sharpTiles() { return Array.from(this.tiles.values()).filter((tile) => tile.image).length; }

  // --- hands ---

  _resize() {
    const [w, h] = this.size;
    this.ratio = Math.min(2.5, window.devicePixelRatio || 1);
    this.canvas.width = Math.max(1, Math.round(w * this.ratio));
    this.canvas.height = Math.max(1, Math.round(h * this.ratio));
    if (this.fitting) this.fit(); else { this._keepInside(); this.draw(); }
  }

  _listen() {
    const c = this.canvas;
    window.addEventListener("resize", () => this._resize());
    const place = (e) => { const box = c.getBoundingClientRect(); return [e.clientX - box.left, e.clientY - box.top]; };
    let tapped = 0, tapPlace = [0, 0], moved = 0;
    c.addEventListener("pointerdown", (e) => {
      c.setPointerCapture(e.pointerId);
      this.pointers.set(e.pointerId, place(e));
      moved = this.pointers.size > 1 ? 99 : 0;
    });
    c.addEventListener("pointermove", (e) => {
      const before = this.pointers.get(e.pointerId);
      if (!before) { if (e.pointerType === "mouse") this.onhover(place(e)); return; }
      const now = place(e);
      if (this.pointers.size === 1) {
        this.pan(now[0] - before[0], now[1] - before[1]);
      } else {
        const other = Array.from(this.pointers.entries()).find(([id]) => id !== e.pointerId)[1];
        const distance = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]) || 1;
        const middle = [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2];
        this.pan((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
        this.zoomTo(this.zoom * distance(now) / distance(before), middle[0], middle[1]);
      }
      moved += Math.hypot(now[0] - before[0], now[1] - before[1]);
      this.pointers.set(e.pointerId, now);
    });
    const lift = (e) => {
      const at = this.pointers.get(e.pointerId);
      this.pointers.delete(e.pointerId);
      if (e.type !== "pointerup" || !at || moved > 10) return;
      const near = Math.hypot(at[0] - tapPlace[0], at[1] - tapPlace[1]) < 40;
      if (e.timeStamp - tapped < 350 && near) { this.toggle(at[0], at[1]); tapped = 0; return; }
      tapped = e.timeStamp;
      tapPlace = at;
      this.taps.some((tap) => tap(at[0], at[1]));
    };
    c.addEventListener("pointerleave", () => this.onhover(null));
    c.addEventListener("pointerup", lift);
    c.addEventListener("pointercancel", lift);
    c.addEventListener("wheel", (e) => {
      e.preventDefault();
      const step = e.deltaMode === 1 ? e.deltaY * 16 : e.deltaY, at = place(e);
      this.zoomTo(this.zoom * Math.exp(-step / 400), at[0], at[1]);
    }, { passive: false });
    c.addEventListener("keydown", (e) => {
      const [w, h] = this.size, step = 60;
      const act = {
        "+": () => this.zoomTo(this.zoom * 1.3, w / 2, h / 2), "=": () => this.zoomTo(this.zoom * 1.3, w / 2, h / 2),
        "-": () => this.zoomTo(this.zoom / 1.3, w / 2, h / 2), "0": () => this.fit(), "1": () => this.zoomTo(1, w / 2, h / 2),
        ArrowLeft: () => this.pan(step, 0), ArrowRight: () => this.pan(-step, 0),
        ArrowUp: () => this.pan(0, step), ArrowDown: () => this.pan(0, -step),
      }[e.key];
      if (act) { e.preventDefault(); act(); }
    });
    const d = this.divider;
    let dragging = false;
    const drag = (e) => { const [left, right] = this.span; this.setSplit((e.clientX - c.getBoundingClientRect().left - left) / (right - left)); };
    d.addEventListener("pointerdown", (e) => { dragging = true; d.setPointerCapture(e.pointerId); e.preventDefault(); d.focus(); });
    d.addEventListener("pointermove", (e) => { if (dragging) drag(e); });
    d.addEventListener("pointerup", () => { dragging = false; });
    d.addEventListener("pointercancel", () => { dragging = false; });
    d.addEventListener("keydown", (e) => {
      const to = { ArrowLeft: this.split - 0.02, ArrowDown: this.split - 0.02, ArrowRight: this.split + 0.02, ArrowUp: this.split + 0.02,
        PageDown: this.split - 0.1, PageUp: this.split + 0.1, Home: 0, End: 1 }[e.key];
      if (to !== undefined) { e.preventDefault(); this.setSplit(to); }
    });
  }
};
