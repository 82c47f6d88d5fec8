/* Home: which part is shown, what runs, and what the buttons do. */
import { $, act, busily, count, duration, el, fill, get, say } from "./home_kit.js";
import { folder, open, setRecent } from "./home_folder.js";
import { make, settings, wishes } from "./home_settings.js";
import { gallery, jobs, look, one } from "./home_gallery.js";

// --- which part ---

const TABS = ["tonight", "gallery", "machine", "one"];
const go = () => {
  const asked = window.location.hash.slice(1), session = asked.startsWith("session-") ? asked.slice(8) : null;
  const tab = session ? "one" : TABS.includes(asked) ? asked : "tonight";
  for (const name of TABS) $(name).hidden = name !== tab;
  for (const link of document.querySelectorAll("#top nav a")) {
    if (link.hash === "#" + (tab === "one" ? "gallery" : tab)) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  if (tab === "gallery") look();
  if (tab === "one") one(session);
  if (tab === "machine") diagnose();
  window.scrollTo(0, 0);
};
window.addEventListener("hashchange", go);

// --- what runs ---

let latest = null, live = null, again = null;
const drawNow = (state) => {
  const session = state.session;
  $("now").hidden = !session;
  if (!session) return;
  const running = session.running, name = session.folder.split(/[\\/]/).filter(Boolean).pop();
  $("now-title").textContent = running ? "Running now" : "The last session";
  $("now-name").textContent = (live && live.object) || name;
  $("now-facts").textContent = running && live ? count(live.frames, "frame") + " stacked, " + duration(live.exposure_total) + " of light" + (live.refused ? ", " + live.refused + " refused" : "") + (live.state === "saving" ? " · saving" : "") : "";
  $("now-said").textContent = running ? session.folder : session.message;
  $("now-open").hidden = !session.reachable;
  $("now-stop").hidden = !session.reachable;
  $("now-kill").hidden = !(running && live && live.state === "saving");
  $("now-past").hidden = running || session.status !== 0;
  $("now-resume").hidden = running || session.status === 0 || session.status === 1 || session.status === 2;
  $("begin").disabled = running || Boolean(folder.found && folder.found.is_session);
  $("begin").textContent = running ? "A session is running" : "Start";
  const image = $("now-image");
  image.hidden = !(running && live && live.small);
  if (!image.hidden && image.getAttribute("src") !== "/" + live.small) image.src = "/" + live.small;
};

const watch = async () => {
  clearTimeout(again);
  try {
    const state = await get("/home/state.json"), ran = latest && latest.session && latest.session.running;
    live = null;
    if (state.session && state.session.reachable) live = await get("/status.json").catch(() => null);
    latest = state;
    setRecent(state.recent);
    jobs(state.jobs);
    drawNow(state);
    $("join-home").hidden = !state.join;
    $("join-url").textContent = state.join || "";
    if (ran && !state.session.running) { say(state.session.message, state.session.status !== 0); if (!$("gallery").hidden) look(); }
  } catch (error) { say(error.message === "Failed to fetch" ? "Home does not answer; is the program still running?" : error.message, true); }
  again = setTimeout(watch, document.hidden ? 10000 : 2000);
};
document.addEventListener("visibilitychange", () => { if (!document.hidden) watch(); });

const resume = (session, button) => busily(button, async () => { say("Resuming…"); say(await act("resume", { key: session.key })); await watch(); window.location.href = "/host"; });
folder.onresume = resume;
gallery.onresume = resume;

const pastOf = async () => (await get("/home/gallery.json")).find((past) => past.place === latest.session.output);
$("now-stop").addEventListener("click", (e) => {
  if (!window.confirm("Stop the session and save the final picture?")) return;
  busily(e.currentTarget, async () => { say(await act("stop")); await watch(); });
});
$("now-kill").addEventListener("click", (e) => {
  if (!window.confirm("End the session at once, in the middle of saving? It can be resumed.")) return;
  busily(e.currentTarget, async () => { say(await act("kill")); await watch(); });
});
$("now-past").addEventListener("click", (e) => busily(e.currentTarget, async () => { const past = await pastOf(); window.location.hash = past ? "#session-" + past.key : "#gallery"; }));
$("now-resume").addEventListener("click", (e) => { const button = e.currentTarget; busily(button, async () => { const past = await pastOf(); if (past) await resume(past, button); }); });
$("begin").addEventListener("click", (e) => busily(e.currentTarget, async () => {
  say("Beginning…");
  say(await act("start", { folder: folder.chosen, preset: settings.preset, settings: wishes(), masters: $("masters").value || null, output: $("output").value || null, on: $("goes-on").value || null, once: $("once").checked }));
  await watch();
  if (latest.session && latest.session.running) window.location.href = "/host";
}));

// --- the doctor ---

const findings = (list, checks) => fill(list, ...checks.map((check) => el("li", { class: check.verdict }, el("span", { class: "verdict" }, check.verdict === "ok" ? "✓ ok" : check.verdict), " ", el("strong", {}, check.name + ": "), check.found.replace(/\.$/, "") + (check.remedy ? "; " + check.remedy : "") + ".")));
const examine = (path) => get("/home/doctor.json" + (path ? "?path=" + encodeURIComponent(path) : ""));
const diagnose = async () => {
  fill($("doctor"), el("li", {}, "Looking…"));
  try { findings($("doctor"), await examine(folder.chosen)); } catch (error) { fill($("doctor"), el("li", { class: "problem" }, error.message)); }
};
$("doctor-again").addEventListener("click", diagnose);
folder.onchoose = async (path) => {
  $("checks-word").textContent = "· looking…";
  try {
    const checks = await examine(path);
    if (folder.chosen !== path) return;
    const bad = checks.filter((check) => check.verdict !== "ok");
    $("checks-word").textContent = bad.length ? "· " + bad.map((check) => check.name).join(", ") : "· nothing found";
    findings($("check-list"), bad.concat(checks.filter((check) => check.verdict === "ok")));
    if (bad.some((check) => check.verdict === "problem")) $("checks").open = true;
  } catch (error) { $("checks-word").textContent = "· " + error.message; }
};

// --- red light ---

const remembered = (value) => { try { if (value === undefined) return localStorage.getItem("night"); localStorage.setItem("night", value); } catch (e) { /* private mode */ } return null; };
const setNight = (on) => { document.body.classList.toggle("night", on); $("night").setAttribute("aria-pressed", String(on)); remembered(on ? "1" : ""); };
setNight(remembered() === "1");
$("night").addEventListener("click", () => setNight(!document.body.classList.contains("night")));
document.addEventListener("keydown", (e) => { if (e.key === "n" && !/^(INPUT|SELECT|TEXTAREA)$/.test(e.target.tagName) && !e.ctrlKey && !e.metaKey && !e.altKey) setNight(!document.body.classList.contains("night")); });

// --- begin ---

(async () => {
  go();
  try { make(await get("/home/form.json")); } catch (error) { say(error.message, true); return; }
  await watch();
  await open((latest && latest.recent[0]) || null);
  document.body.dataset.ready = "1";
})();
