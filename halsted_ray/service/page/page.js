// The page for surgeons: sign in, send videos, follow the progress of their maps, watch each video above its timeline.
// It uses the API under /v1 like any other program (see docs), and loads nothing from outside.

const $ = (id) => document.getElementById(id);
const PALETTE = ["#33658a", "#c8553d", "#588b8b", "#d9a441", "#6d597a", "#7a9e5f", "#b56576", "#4a7c9d", "#a47148", "#8d99ae"];
const LOOK_EVERY_MS = 2000, SHOWN_SPANS = 1000, MAIN_LANES = ["specialty", "procedure", "step"];
const UNKNOWN = "unknown", UNKNOWN_REASON = "outside of what the model has learned: unlike its atlas";
const SVG = "http://www.w3.org/2000/svg";
let session = {}, tasks = {}, cases = [], open = null, idle = 0;

// ---- the API

async function api(path, { method = "GET", json, body, headers = {}, signal } = {}) {
  if (json !== undefined) { body = JSON.stringify(json); headers["content-type"] = "application/json"; }
  if (method !== "GET" && session.csrf) headers["x-csrf-token"] = session.csrf;
  const answer = await fetch(path, { method, headers, body, signal, credentials: "same-origin" });
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  const problem = await answer.json().catch(() => ({}));
  if (answer.status === 401 && session.user) { session = {}; show(); }
  throw Object.assign(new Error(problem.detail || `the service answered ${answer.status}`), { status: answer.status });
}

function say(text) { $("message").textContent = text; $("message").hidden = !text; }

// Runs what the user asked for, and shows the reason where it fails.
async function attempt(work) { say(""); try { return await work(); } catch (error) { say(sentence(error.message)); } }

// ---- words

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const two = (n) => String(Math.floor(n)).padStart(2, "0");
function clock(s) {
  const rest = `${two((s % 3600) / 60)}:${two(s % 60)}`;
  return s >= 3600 ? `${Math.floor(s / 3600)}:${rest}` : rest;
}
const percent = (share) => `${Math.round(100 * share)}%`;
const size = (bytes) => bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${Math.max(0.1, bytes / 1e6).toFixed(1)} MB`;
const left = (s) => s > 90 ? `${Math.round(s / 60)} min left` : `${Math.ceil(s)} s left`;
const name = (video) => `Case ${video.video_id.slice(0, 6)}`;
const facts = (video) => `${new Date(video.created_s * 1000).toLocaleString()} · ${clock(video.duration_s)} · ` +
  `${video.width}×${video.height} · ${size(video.size_bytes)}`;

function make(tag, text, attributes = {}) {
  const made = Object.assign(document.createElement(tag), attributes);
  made.textContent = text;
  return made;
}
function button(text, act, className = "") {
  const made = make("button", text, { type: "button", className });
  made.addEventListener("click", () => act(made));
  return made;
}

// ---- what is shown: "#" shows all cases, "#3f2a…@75" shows one case from its second 75 on

async function show() {
  const [id, second] = location.hash.slice(1).split("@");
  const known = /^[0-9a-f]{16,64}$/.test(id);
  const where = !session.user ? "sign-in" : known ? "case" : "cases";
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== where;
  $("who").hidden = !session.user;
  $("sign-on").hidden = !session.sign_on;
  if (where !== "case") leave();
  if (where === "sign-in") { if (id === "refused") say("Your hospital's account was refused; ask the operator of this site."); $("key").focus(); }
  if (where === "cases") await attempt(showCases);
  if (where === "case") await attempt(() => showCase(id, Number(second) || 0));
}

const mayWrite = () => ["surgeon", "admin"].includes(session.role);

async function begin() {
  session = await api("session");
  $("model").hidden = !session.user;
  if (session.user) {
    $("user").textContent = `${session.user}, ${session.tenant} (${session.role})`;
    $("upload").hidden = $("again").hidden = !mayWrite();
    const [model] = (await api("v1/models")).models;
    tasks = model.instructions;
    $("card").textContent = model.card ?? "";
    for (const select of document.querySelectorAll(".tasks"))
      select.replaceChildren(make("option", "everything", { value: "" }), ...Object.keys(tasks).map(
        (text) => make("option", text.replace(/^map /, ""), { value: text })));
  }
  await show();
}

$("sign-in").querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(async () => { await api("session", { method: "POST", json: { key: $("key").value } }); $("key").value = ""; await begin(); });
});
$("sign-out").addEventListener("click", () => attempt(async () => {
  await api("session", { method: "DELETE" });
  session = {};
  location.hash = "";
  await begin();
}));
addEventListener("hashchange", show);

// ---- all cases

const ACTIVE = ["queued", "running"];
const isActive = (video) => video.job && ACTIVE.includes(video.job.state);

async function allVideos() {
  const found = [];
  for (let page = null; page === null || page.length === 1000; found.push(...page))
    page = await api(`v1/videos?limit=1000&after=${found.length ? found.at(-1).video_id : ""}`);
  return found.sort((one, other) => other.created_s - one.created_s);
}

async function showCases() {
  cases = await allVideos();
  $("none").hidden = cases.length > 0;
  $("list").replaceChildren(...cases.map((video) => {
    const item = make("li", ""), what = make("div", "", { className: "what" });
    what.append(make("a", name(video), { href: `#${video.video_id}` }), make("span", facts(video)));
    item.append(what, ...state(video));
    return item;
  }));
}

// The state of a case's newest job in words, with the buttons that apply to it.
function state(video) {
  const shown = stateParts(video);
  return mayWrite() ? shown : shown.filter((part) => part.tagName !== "BUTTON");
}
function stateParts(video) {
  const job = video.job, again = () => attempt(async () => { await map(video.video_id, ""); await refresh(); });
  if (!job || job.state === "cancelled") return [make("span", job ? "stopped" : "not mapped yet"), button("Map", again)];
  if (job.state === "failed")
    return [make("span", `failed: ${job.reason || "no reason was given"}`, { className: "failed" }), button("Try again", again, "plain")];
  if (job.state === "done") return [make("span", job.outcome === "partial" ? "mapped, with gaps" : "mapped")];
  const share = job.total_s ? job.done_s / job.total_s : 0;
  const words = job.state === "queued" ? "waiting for its turn" :
    `mapping ${percent(share)}${job.eta_s === null ? "" : `, ${left(job.eta_s)}`}`;
  const bar = make("progress", words, { max: 1, value: share });
  bar.setAttribute("aria-label", `Progress of ${name(video)}`);
  return [make("span", words), button("Stop", () => attempt(async () => {
    await api(`v1/jobs/${job.job_id}/cancel`, { method: "POST" }); await refresh();
  }), "plain"), bar];
}

const map = (videoId, instruction) => api(`v1/videos/${videoId}/maps`, { method: "POST", json: instruction ? { instruction } : {} });

// Shows the newest state. The list of cases is not redrawn while the user is on one of its buttons.
async function refresh() {
  if (!session.user || document.hidden) return;
  if (open) {
    const shown = open, found = await api(`v1/videos/${open.video_id}`), ended = isActive(open) && !isActive(found);
    if (open !== shown) return;
    open.job = found.job;
    $("state").replaceChildren(...state(open));
    if (ended) await showTimeline();
  } else if (!$("list").contains(document.activeElement) || document.activeElement.disabled) await showCases();
}
// Every two seconds while a job waits or runs, otherwise every twenty seconds.
setInterval(() => {
  if ((open ? isActive(open) : cases.some(isActive)) || ++idle % 10 === 0) refresh().catch(() => {});
}, LOOK_EVERY_MS);

// ---- sending videos

$("file").addEventListener("change", () => { for (const file of $("file").files) send(file, $("task").value); $("file").value = ""; });
for (const kind of ["dragover", "dragleave", "drop"]) $("drop").addEventListener(kind, (event) => {
  event.preventDefault();
  $("drop").classList.toggle("over", kind === "dragover");
  if (kind === "drop") for (const file of event.dataTransfer.files) send(file, $("task").value);
});

// Sends one file, and shows a line with its progress and buttons to pause it and to go on.
function send(file, instruction) {
  const item = make("li", ""), what = make("div", "", { className: "what" }), words = make("span", "");
  const bar = make("progress", "", { max: 1, value: 0 });
  let stop = null;
  bar.setAttribute("aria-label", `Progress of ${file.name}`);
  what.append(make("b", file.name), words);
  const pause = button("Pause", () => stop ? stop.abort() : run(), "plain");
  const drop = button("Remove", () => { stop?.abort(); item.remove(); }, "plain");
  item.append(what, pause, drop, bar);
  $("uploads").append(item);

  async function run() {
    stop = new AbortController();
    pause.textContent = "Pause";
    words.className = "";
    try {
      const videoId = await upload(file, stop.signal, (text, share) => { words.textContent = text; bar.value = share; });
      await map(videoId, instruction);
      item.remove();
      await refresh();
    } catch (error) {
      words.className = error.name === "AbortError" ? "" : "failed";
      words.textContent = error.name === "AbortError" ? "paused" : `failed: ${error.message}`;
      pause.textContent = error.name === "AbortError" ? "Go on" : "Try again";
    }
    stop = null;
  }
  run();
}

// Sends the parts that the service does not have yet. The browser keeps the id of the upload under a digest of the
// file's beginning, never under the file's name.
async function upload(file, signal, tell) {
  const mark = `upload ${await digest(await file.slice(0, 1 << 20).arrayBuffer()) || file.lastModified} ${file.size}`;
  let begun = null;
  if (localStorage.getItem(mark)) begun = await api(`v1/uploads/${localStorage.getItem(mark)}`, { signal }).catch(() => null);
  if (!begun || begun.state !== "open")
    begun = await api("v1/uploads", { method: "POST", json: { size_bytes: file.size }, signal });
  localStorage.setItem(mark, begun.upload_id);
  const where = `v1/uploads/${begun.upload_id}`, there = new Set(begun.parts.map((part) => part.number));
  const count = Math.ceil(file.size / begun.part_bytes), startedMs = performance.now();
  let sent = 0;
  for (let number = 1; number <= count; number++) {
    const share = (number - 1) / count, bytesPerS = sent / (performance.now() - startedMs) * 1000;
    tell(`sending ${percent(share)} of ${size(file.size)}` + (sent ? `, ${left((file.size * (1 - share)) / bytesPerS)}` : ""), share);
    if (there.has(number)) continue;
    const part = await file.slice((number - 1) * begun.part_bytes, number * begun.part_bytes).arrayBuffer();
    const sha256 = await digest(part, (bytes) => btoa(String.fromCharCode(...bytes)));
    await withRetries(() => api(`${where}/parts/${number}`, { method: "PUT", body: part, signal,
      headers: sha256 ? { "content-digest": `sha-256=:${sha256}:` } : {} }), signal, (text) => tell(text, share));
    sent += part.byteLength;
  }
  tell("checking the video", 1);
  try {
    return (await withRetries(() => api(`${where}/complete`, { method: "POST", signal }), signal, (text) => tell(text, 1))).video_id;
  } finally {
    if (!signal.aborted) localStorage.removeItem(mark);
  }
}

// Tries again for as long as the network or the service does not answer. A refusal is not tried again.
async function withRetries(work, signal, tell) {
  for (let waitS = 1; ; waitS = Math.min(2 * waitS, 30)) {
    try { return await work(); } catch (error) {
      if (error.name === "AbortError" || (error.status && ![408, 429, 502, 503, 504].includes(error.status))) throw error;
      tell(`no answer from the service; trying again in ${waitS} s`);
      await new Promise((go, end) => {
        const timer = setTimeout(go, 1000 * waitS);
        signal.addEventListener("abort", () => { clearTimeout(timer); end(signal.reason); }, { once: true });
      });
    }
  }
}

// SHA-256; empty where the browser has none: over plain HTTP it has one only for a service on the same machine.
async function digest(data, write = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")) {
  return crypto.subtle ? write(new Uint8Array(await crypto.subtle.digest("SHA-256", data))) : "";
}

// ---- one case

const video = $("video");

async function showCase(id, second) {
  if (open?.video_id === id) { jump(second); return; }
  $("mapped").hidden = true;
  open = await api(`v1/videos/${id}`);
  $("case-title").textContent = name(open);
  $("facts").textContent = facts(open);
  $("state").replaceChildren(...state(open));
  $("unplayable").hidden = true;
  video.hidden = false;
  open.at_s = second;
  video.src = `v1/videos/${id}/content`;
  await showTimeline();
}
function leave() { open = null; video.removeAttribute("src"); video.load(); }
video.addEventListener("loadedmetadata", () => { if (open?.at_s) video.currentTime = open.at_s; follow(); });
video.addEventListener("error", () => { if (video.getAttribute("src")) { video.hidden = true; $("unplayable").hidden = false; } });

async function showTimeline() {
  const shown = open, where = `v1/videos/${open.video_id}/timeline`;
  const isMapped = (await api(`v1/videos/${open.video_id}/maps`)).some((job) => job.state === "done");
  const found = isMapped ? await api(where) : null;
  if (open !== shown) return; // the user has opened another case meanwhile
  $("mapped").hidden = !found;
  if (!found) return;
  const order = Object.values(tasks).flatMap((tags) => Object.entries(tags));
  open.lanes = [...order, ["gap", []], [UNKNOWN, []]].map(([tag, categories]) => ({
    tag, categories, spans: found.rows.filter((row) => row.tag === tag).sort((one, other) => one.start_s - other.start_s),
  })).filter((lane) => lane.spans.length || MAIN_LANES.includes(lane.tag));
  $("names").replaceChildren(...["", ...open.lanes.map((lane) => lane.tag)].map((tag) => make("div", tag === "gap" ? "not mapped" : tag)));
  $("exports").replaceChildren("Save as", ...["csv", "json", "vtt", "srt"].map((format) =>
    make("a", format.toUpperCase(), { href: `${where}?format=${format}`, download: `${open.video_id}.${format}` })));
  $("filter").replaceChildren(...open.lanes.map((lane) => make("option", lane.tag)));
  $("filter").value = "step";
  $("lanes").setAttribute("aria-valuemax", Math.round(open.duration_s));
  drawLanes();
  drawTable();
  follow();
}

function part(parent, tag, attributes, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  parent.append(made);
  return made;
}
const at = (s) => `${100 * s / open.duration_s}%`;
// A row without a tag of its own has a colour and words of its own, and no confidence.
const SOURCES = { gap: { colour: "#444", words: (span) => `not mapped: ${span.category}` }, [UNKNOWN]: { colour: "#d9a400", words: () => `unknown: ${UNKNOWN_REASON}` } };
const words = (span) => SOURCES[span.source]?.words(span) ?? `${span.category} (${percent(span.confidence)} sure)`;

function drawLanes() {
  const wide = $("scroll").clientWidth * 2 ** $("zoom").value, perS = wide / open.duration_s;
  $("lanes").style.width = `${wide}px`;
  const ticks = document.createElementNS(SVG, "svg");
  ticks.classList.add("ticks");
  const step = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600].find((s) => s * perS > 64) || 7200;
  for (let s = 0; s < open.duration_s; s += step) part(ticks, "text", { x: at(s), y: 14, dx: 2 }, clock(s));
  const drawn = open.lanes.map((lane) => {
    const svg = document.createElementNS(SVG, "svg");
    for (const span of lane.spans) {
      const own = part(svg, "svg", { x: at(span.start_s), width: at(span.end_s - span.start_s), height: "100%" });
      const colour = SOURCES[span.source]?.colour ?? PALETTE[lane.categories.indexOf(span.category) % PALETTE.length];
      const box = part(own, "rect", { width: "100%", height: "100%", fill: colour, stroke: "#fff", "stroke-width": 0.5,
        "fill-opacity": span.source in SOURCES ? 0.35 : 0.15 + 0.5 * span.confidence });
      box.dataset.start = span.start_s;
      part(box, "title", {}, `${clock(span.start_s)} to ${clock(span.end_s)}: ${words(span)}`);
      if ((span.end_s - span.start_s) * perS > 44) part(own, "text", { x: 5, y: 18 }, span.category);
    }
    return svg;
  });
  $("lanes").replaceChildren(ticks, ...drawn, make("div", "", { id: "head" }));
  follow();
  $("scroll").scrollLeft = $("head").offsetLeft - $("scroll").clientWidth / 2;
}

function drawTable() {
  const spans = open.lanes.find((lane) => lane.tag === $("filter").value)?.spans || [];
  $("spans").replaceChildren(...spans.slice(0, SHOWN_SPANS).map((span) => {
    const row = make("tr", ""), from = make("td", "");
    from.append(button(clock(span.start_s), () => jump(span.start_s)));
    row.append(from, make("td", clock(span.end_s)), make("td", span.source === UNKNOWN ? words(span) : span.category), make("td", span.source in SOURCES ? "" : percent(span.confidence)));
    return row;
  }));
  if (spans.length > SHOWN_SPANS) $("spans").append(make("tr", `${spans.length - SHOWN_SPANS} more spans are in the exports`));
}

function jump(s) {
  open.at_s = Math.min(Math.max(0, s), open.duration_s);
  if (video.readyState) video.currentTime = open.at_s; // a video that can't be played (yet) has a position, too
  history.replaceState(null, "", `#${open.video_id}@${Math.round(open.at_s * 10) / 10}`);
  follow();
}

const here = () => video.hidden || !video.readyState ? open.at_s : video.currentTime;

// The current position: the line over the lanes, and in words what happens now.
function follow() {
  if (!open?.lanes) return;
  const s = here();
  const now = open.lanes.flatMap((lane) => lane.spans.filter((span) => span.start_s <= s && s < span.end_s));
  $("now").textContent = `${clock(s)}  ${now.map(words).join(" · ")}`;
  if ($("head")) $("head").style.left = at(s);
  $("lanes").setAttribute("aria-valuenow", Math.round(s));
  $("lanes").setAttribute("aria-valuetext", $("now").textContent);
}
for (const kind of ["timeupdate", "seeked"]) video.addEventListener(kind, follow);

$("lanes").addEventListener("click", (event) => {
  const box = $("lanes").getBoundingClientRect(), start = event.target.dataset?.start;
  jump(start === undefined ? (event.clientX - box.left) / box.width * open.duration_s : Number(start));
});
$("lanes").addEventListener("keydown", (event) => {
  const s = here();
  const starts = (open.lanes.find((lane) => lane.tag === "step") || open.lanes[0]).spans.map((span) => span.start_s);
  const to = { ArrowLeft: s - 5, ArrowRight: s + 5, Home: 0, End: open.duration_s,
    PageDown: starts.find((start) => start > s + 0.1), PageUp: starts.findLast((start) => start < s - 0.5) }[event.key];
  if (to !== undefined) { event.preventDefault(); jump(to); }
});
$("zoom").addEventListener("input", drawLanes);
$("filter").addEventListener("change", drawTable);
addEventListener("resize", () => { if (open?.lanes) drawLanes(); });

$("again").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(async () => { await map(open.video_id, $("again-task").value); await refresh(); });
});
$("delete").addEventListener("click", () => { $("confirm").returnValue = "no"; $("confirm").showModal(); });
$("confirm").addEventListener("close", () => {
  if ($("confirm").returnValue === "yes")
    attempt(async () => {
      const id = open.video_id;
      leave(); // before the video is deleted, so that nothing asks for it any more
      try { await api(`v1/videos/${id}`, { method: "DELETE" }); location.hash = ""; } catch (error) { await showCase(id, 0); throw error; }
    });
});

attempt(begin);
