/* Choosing the folder: roots, recent ones, a way down and up; and what lies in the one that was chosen. */
import { settings, valueOf } from "./home_settings.js";
import { $, count, duration, el, fill, get, say, when } from "./home_kit.js";

export const folder = { chosen: null, found: null, recent: [], onchoose: () => {}, onresume: () => {} };

let listed = null;

export const open = async (path) => {
  let answer;
  try { answer = await get("/home/folder.json" + (path ? "?path=" + encodeURIComponent(path) : "")); } catch (error) { say(error.message, true); return; }
  listed = answer;
  drawPlaces();
  fill($("folders"), ...answer.folders.map((one) => el("li", {},
    el("button", { type: "button", onclick: () => open(one.path) }, one.name + (one.session ? " (a session)" : ""),
      el("span", { class: "when" }, when(1000 * one.changed))))));
  $("folders").hidden = !answer.folders.length;
  $("folder-note").textContent = answer.path && !answer.folders.length ? "No folders in here." : "";
  if (answer.path) await choose(answer.path);
};

const drawPlaces = () => {
  const chip = (name, path, title) => el("button", { type: "button", title: title || path, onclick: () => open(path) }, name);
  const recent = folder.recent.map((path) => chip(path.split(/[\\/]/).filter(Boolean).slice(-2).join(" / "), path));
  fill($("roots"), ...listed.roots.map((root) => chip(root.name, root.path)), ...recent);
  fill($("crumbs"), listed.path ? el("button", { type: "button", "aria-label": "Up to the folder above", disabled: !listed.above, onclick: () => open(listed.above) }, "↑ Up") : null,
    el("span", { title: listed.path }, listed.path ? fromRoot(listed.path) : "Choose where to begin."));
};

/* A path as its root's name and what follows. */
const fromRoot = (path) => {
  const root = listed.roots.filter((one) => path === one.path || path.startsWith(one.path)).sort((a, b) => b.path.length - a.path.length)[0];
  return root ? [root.name, ...path.slice(root.path.length).split(/[\\/]/).filter(Boolean)].join(" / ") : path;
};

export const setRecent = (recent) => {
  if (JSON.stringify(recent) === JSON.stringify(folder.recent)) return;
  folder.recent = recent;
  if (listed) drawPlaces();
};

const choose = async (path) => {
  folder.chosen = path;
  $("found").hidden = false;
  $("found-name").textContent = path.split(/[\\/]/).filter(Boolean).pop() || path;
  $("found-lead").textContent = "Looking…";
  $("found-table").hidden = true;
  fill($("found-facts"));
  $("found-broken").hidden = true;
  folder.onchoose(path);
  let found;
  try { found = await get("/home/survey.json?path=" + encodeURIComponent(path)); } catch (error) { $("found-lead").textContent = error.message; return; }
  if (folder.chosen !== path) return;
  folder.found = found;
  show(found);
};

const lead = () => {
  const found = folder.found;
  if (!found || found.error) return;
  const estimate = found.read < found.frames ? " (told by " + found.read + " of them)" : "";
  const here = (found.more ? "more than " : "") + count(found.frames, "frame") + estimate;
  $("found-lead").textContent = found.is_session
    ? "This is the folder of a session: its results look like frames. Choose the folder that the camera writes into."
    : !found.frames ? "No frames yet: the session waits for the first one."
      : valueOf("ingest", "existing") === false ? here + " are there and stay out; what comes from now on is stacked."
        : here + " would be stacked or judged, then what comes.";
};
settings.onchange = lead;

const show = (found) => {
  if (found.error) { $("found-lead").textContent = found.error; return; }
  lead();
  $("begin").disabled = found.is_session;
  $("found-table").hidden = !found.lights.length;
  fill($("found-rows"), ...found.lights.map((row) => el("tr", {}, ...[
    row.object || "not named", row.filter || "none", row.exposure_s === null ? "not told" : duration(row.exposure_s),
    row.width + " × " + row.height + " " + row.colour, String(row.frames)].map((word) => el("td", {}, word)))));
  const facts = [];
  if (found.camera) facts.push(["Camera", found.camera]);
  if (found.telescope) facts.push(["Telescope", found.telescope]);
  if (found.newest) facts.push(["Newest file", found.newest.name + ", " + when(found.newest.time)]);
  for (const one of found.calibration) facts.push(["Left aside", count(one.frames, one.kind + " frame")]);
  if (!found.writable) facts.push(["Results", "cannot be written into this folder"]);
  fill($("found-facts"), ...facts.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
  const broken = found.sessions.find((one) => one.place === found.unfinished) || found.sessions.find((one) => one.can_resume && one.place === found.unfinished);
  $("found-broken").hidden = !broken;
  if (broken) {
    fill($("found-broken"), "A session here broke off after " + count(broken.frames, "frame") + ", " + when(broken.began) + ". ",
      el("button", { type: "button", class: "strong", onclick: (e) => folder.onresume(broken, e.currentTarget) }, "Resume it"));
  }
  fill($("masters"), el("option", { value: "" }, "none"), ...found.masters.map((one) => el("option", { value: one.path }, one.kinds.join(", ") + ": " + one.path)));
  if (found.masters.length) $("masters").selectedIndex = 1;
  const places = listed.roots.filter((root) => root.writable && root.path !== found.path);
  fill($("output"), found.writable ? el("option", { value: "" }, "in the folder livestack inside it") : null,
    ...places.map((root) => el("option", { value: root.path }, "in " + root.path)));
  if (!found.writable && !places.length) $("begin").disabled = true;
  const earlier = found.sessions.filter((one) => one.stacks && one.state === "saved");
  fill($("goes-on"), el("option", { value: "" }, "no, a picture of its own"),
    ...earlier.map((one) => el("option", { value: one.key }, (one.objects.join(", ") || one.name) + ", " + when(one.began) + ", " + duration(one.light_s))));
};
