/* What home's modules share: elements, questions, actions, words. */
export const $ = (id) => document.getElementById(id);

export const el = (kind, attributes = {}, ...children) => {
  const element = document.createElement(kind);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
};

export const fill = (element, ...children) => element.replaceChildren(...children.filter((child) => child !== null));

export const get = async (path) => {
  const answer = await fetch(path, { cache: "no-store", credentials: "same-origin" });
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(told.message || "That did not work (" + answer.status + ").");
  return told;
};

export const act = async (action, body = {}) => {
  const answer = await fetch("/home/do/" + action, {
    method: "POST", credentials: "same-origin", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  });
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(told.message || "That did not work (" + answer.status + ").");
  return told.message;
};

let quiet = null;
export const say = (words, bad = false) => {
  const said = $("said");
  said.textContent = words;
  said.classList.toggle("bad", bad);
  said.hidden = !words;
  clearTimeout(quiet);
  if (words && !bad) quiet = setTimeout(() => { said.hidden = true; }, 8000);
};

/* Do something for a button: it cannot be pressed twice, and what went wrong is told. */
export const busily = async (button, work) => {
  button.disabled = true;
  button.setAttribute("aria-busy", "true");
  try { return await work(); } catch (error) { say(error.message, true); return null; } finally {
    button.disabled = false;
    button.removeAttribute("aria-busy");
  }
};

export const duration = (seconds) => {
  const whole = Math.round(seconds || 0), h = Math.floor(whole / 3600), m = Math.floor(whole / 60) % 60;
  if (h) return h + " h " + String(m).padStart(2, "0") + " min";
  return m ? m + " min" + (whole % 60 ? " " + (whole % 60) + " s" : "") : whole + " s";
};

export const count = (n, one, many) => n.toLocaleString("en") + " " + (n === 1 ? one : many || one + "s");

export const when = (moment) => {
  const at = new Date(moment);
  return isNaN(at) ? "" : at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
};

export const size = (bytes) => bytes >= 1e9 ? (bytes / 1e9).toFixed(1) + " GB" : bytes >= 1e6 ? (bytes / 1e6).toFixed(1) + " MB" : Math.max(1, Math.round(bytes / 1e3)) + " kB";
