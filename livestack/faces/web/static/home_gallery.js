/* Past sessions: cards, one of them in full, and what can be made of them. */
import { $, act, busily, count, duration, el, fill, get, say, size, when } from "./home_kit.js";

const STATES = { saved: "", interrupted: "broke off", failed: "broke off", open: "broke off", nothing_stacked: "nothing was stacked" };
const chosen = new Set();
let shown = null;

export const gallery = { onresume: () => {} };

const title = (one) => one.objects.join(", ") || one.folder.split(/[\\/]/).filter(Boolean).pop() || one.name;

const lead = (one) => [count(one.frames, "frame"), duration(one.light_s) + " of light", one.refused ? one.refused + " refused" : "", STATES[one.state] || ""].filter(Boolean).join(" · ");

export const look = async () => {
  let past;
  try { past = await get("/home/gallery.json"); } catch (error) { say(error.message, true); return; }
  $("gallery-word").textContent = past.length ? "" : "No sessions yet. They appear here when they are saved.";
  const there = new Set(past.map((one) => one.key));
  for (const key of chosen) if (!there.has(key)) chosen.delete(key);
  fill($("cards"), ...past.map(card));
  drawMerge();
};

const card = (one) => {
  const name = title(one), pick = el("input", { type: "checkbox", checked: chosen.has(one.key), "aria-label": "Choose " + name + " of " + when(one.began) + " for merging" });
  pick.addEventListener("change", () => { if (pick.checked) chosen.add(one.key); else chosen.delete(one.key); drawMerge(); });
  const picture = one.picture ? el("img", { src: "/home/picture/" + one.key + ".jpg", alt: "Picture of " + name, loading: "lazy" }) : el("div", { class: "none" }, "no picture");
  return el("li", { class: "card", "data-key": one.key }, picture,
    el("div", { class: "body" }, el("h2", {}, el("a", { href: "#session-" + one.key }, name)), el("p", {}, when(one.began)), el("p", { class: "small" }, lead(one))),
    el("p", { class: "row" },
      one.stacks ? el("label", { class: "check" }, pick, el("span", { class: "small" }, "merge")) : null,
      one.report ? el("a", { class: "button", href: "/home/report/" + one.key }, "Report") : null,
      one.can_resume ? el("button", { type: "button", onclick: (e) => gallery.onresume(one, e.currentTarget) }, "Resume") : null));
};

const drawMerge = () => {
  $("merge-bar").hidden = chosen.size < 1;
  $("merge").disabled = chosen.size < 2;
  $("merge-word").textContent = chosen.size < 2 ? "Choose another one." : chosen.size + " nights become one stack, on the grid of the first.";
};

export const one = async (key) => {
  let told;
  try { told = await get("/home/session/" + key + ".json"); } catch (error) { say(error.message, true); window.location.hash = "#gallery"; return; }
  const another = shown !== key;
  shown = key;
  $("one-title").textContent = title(told);
  $("one-lead").textContent = when(told.began) + " · " + lead(told) + (told.reason ? " · " + told.reason : "");
  const ask = (action, body) => (e) => busily(e.currentTarget, async () => { say(await act(action, body)); });
  fill($("one-actions"),
    told.report ? el("a", { class: "button strong", href: "/home/report/" + key }, "Read the report") : el("button", { type: "button", onclick: ask("report", { key }) }, "Write the report"),
    told.can_resume ? el("button", { type: "button", onclick: (e) => gallery.onresume(told, e.currentTarget) }, "Resume") : null);
  const src = (n) => "/home/file/" + key + "/" + n + "?show=1";
  fill($("one-groups"), ...told.groups.map((group) => el("section", {},
    el("h2", {}, [group.object, group.filter].filter(Boolean).join(" · ") || group.group),
    el("p", {}, count(group.frames, "frame") + " · " + duration(group.light_s) + " of light"),
    el("div", { class: "shots" }, ...group.pictures.map((n) => el("a", { href: src(n) }, el("img", { class: "pair", src: src(n), alt: told.files[n].name, loading: "lazy" })))),
    ...group.enhanced.map((n) => el("figure", {}, el("img", { class: "pair", src: src(n) + "&" + told.files[n].bytes, alt: "Before and after enhancing" }), el("figcaption", { class: "small" }, "Left before, right after enhancing; the middle at full resolution."))),
    el("p", { class: "row start" }, el("button", { type: "button", onclick: ask("enhance", { key, group: group.group }) }, group.enhanced.length ? "Enhance again" : "Enhance: deconvolve and sharpen")))));
  fill($("one-files"), ...told.files.map((file) => el("li", {}, el("a", { href: "/home/file/" + key + "/" + file.number, download: true }, file.name), el("span", {}, size(file.bytes)))));
  if (another) $("one-title").focus();
};

/* What the workshop does: shown where something waits, runs or was done; a finished job renews what is shown. */
let before = "";
export const jobs = (listed) => {
  const now = JSON.stringify(listed);
  if (now === before) return;
  const finished = before && listed.some((job) => job.state === "done" || job.state === "failed");
  before = now;
  $("jobs").hidden = !listed.length;
  fill($("job-list"), ...listed.map((job) => el("li", { class: job.state }, el("span", { class: "verdict" }, job.state), job.title, job.answer ? el("span", { class: "small" }, " " + job.answer) : null)));
  const last = listed[0];
  if (finished && last && last.state === "failed") say(last.title + ": " + last.answer, true);
  if (finished && last && last.state === "done") say(last.title + ": done.");
  if (finished && !$("one").hidden) one(shown);
  if (finished && !$("gallery").hidden) look();
};

$("merge").addEventListener("click", (e) => busily(e.currentTarget, async () => { say(await act("merge", { keys: Array.from(chosen) })); chosen.clear(); await look(); }));
