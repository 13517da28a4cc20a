"use strict";

const $ = (id) => document.getElementById(id);
const percent = (share, digits = 0) => `${(100 * share).toFixed(digits)} %`;
const number = (value) => Math.round(value).toLocaleString("en");
const HINTS = {
  finetune: "Fine-tuning and prediction: all kept tokens are encoded.",
  pretrain: "Pre-training without labels: a few of the kept tokens are encoded, the model predicts the rest.",
};
const RATIO_HINTS = {
  moves: "Fewer tokens, less work.",
  rlt: "This selection keeps what is new in the clip, however much that is: the share does not matter.",
  all: "This selection computes every token: the share does not matter.",
  rest: "This selection predicts everything that it does not encode: the share does not matter.",
  adaptive: "At most: this selection keeps fewer where little happens.",
};

const state = { start: null, video: null, clip: "", films: {}, look: null, running: false, wanted: false, thinking: null };
const player = new Player([...document.querySelectorAll("#player canvas")]);

// ---- asking the server

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (problem) {
    if (problem.name === "AbortError") throw problem;
    throw new Error("The server does not answer. Is everest ui still running?");
  }
  let answer = null;
  try {
    answer = await response.json();
  } catch (problem) {
    if (problem.name === "AbortError") throw problem;
  }
  if (!response.ok || answer === null) {
    throw new Error(answer?.error ?? "The server could not do this; what it printed in its terminal says why.");
  }
  return answer;
}

function post(path, body, options = {}) {
  return ask(path, {
    method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" }, ...options });
}

function showError(text) {
  $("error").textContent = text;
  $("error").hidden = !text;
}

function busy(isOn) {
  $("busy").hidden = !isOn;
  document.body.dataset.busy = isOn;
}

// ---- opening a video

function upload(file) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch does not say how far it is
    request.open("POST", "/api/videos");
    request.setRequestHeader("X-Name", encodeURIComponent(file.name));
    request.responseType = "json";
    request.upload.onprogress = (event) => {
      $("progress").hidden = false;
      $("progress").firstElementChild.style.width = `${(100 * event.loaded) / Math.max(1, event.total)}%`;
    };
    request.onloadend = () => {
      $("progress").hidden = true;
      if (request.status === 200) resolve(request.response);
      else reject(new Error(request.response?.error ?? "The upload broke off. Is everest ui still running?"));
    };
    request.send(file);
  });
}

async function open(getVideo, example = null) {
  showError("");
  busy(true);
  try {
    const video = await getVideo();
    forget();
    state.video = video;
    state.clip = "";
    for (const button of $("examples").children) {
      button.setAttribute("aria-pressed", String(button.dataset.number === String(example)));
    }
    resetBegin();
    await refresh();
  } catch (problem) {
    showError(problem.message);
  } finally {
    busy(false);
  }
}

function openFile(file) {
  const limit = state.start.max_bytes;
  if (file.size > limit) return showError(`${file.name} is larger than ${number(limit / 1e6)} MB: cut it first.`);
  return open(() => upload(file));
}

function forget() {
  if (state.video) navigator.sendBeacon(`/api/videos/${state.video.key}/close`);
}

// ---- what is set

function task() {
  return document.querySelector("input[name=task]:checked").value;
}

function alpha() {
  return Number(document.querySelector("input[name=alpha]:checked").value);
}

function choice() {
  return {
    task: task(), method: $("method").value, keep_ratio: Number($("ratio").value), alpha: alpha(),
    start_seconds: $("begin").dataset.moved ? Number($("begin").value) : null,
  };
}

function setDefaults() {
  const values = state.start.tasks[task()];
  $("ratio").min = values.least_keep_ratio;
  $("ratio").value = values.keep_ratio;
  $("method").value = values.method;
  for (const input of document.querySelectorAll("input[name=alpha]")) input.checked = Number(input.value) === values.alpha;
  $("task-hint").textContent = HINTS[task()];
  resetBegin();
  describe();
}

function resetBegin() {
  const latest = state.video ? state.video.latest_start[task()] : 0;
  $("begin-field").hidden = latest < 0.1;
  $("begin").max = latest;
  const first = state.video?.first_start[task()] ?? null;
  if (first === null) delete $("begin").dataset.moved; // the server begins in the middle
  else Object.assign($("begin"), { value: first }).dataset.moved = "yes";
}

function describe() {
  const method = $("method").value;
  const ignored = state.start.tasks[task()].without_ratio.includes(method);
  $("ratio-value").textContent = percent(Number($("ratio").value));
  $("ratio").disabled = !state.video || ignored;
  $("method").disabled = $("begin").disabled = !state.video;
  $("ratio-field").style.opacity = ignored ? 0.55 : 1;
  const why = ignored ? (["rlt", "all"].includes(method) ? method : "rest") : method === "adaptive" ? method : "moves";
  $("ratio-hint").textContent = RATIO_HINTS[why];
  const { what } = state.start.methods.find(({ name }) => name === method);
  $("method-hint").textContent = what ? `${what[0].toUpperCase()}${what.slice(1)}.` : "";
  for (const slider of [$("ratio"), $("begin")]) {
    slider.style.setProperty("--share", `${(100 * (slider.value - slider.min)) / (slider.max - slider.min || 1)}%`);
  }
  $("begin-value").textContent = `${Number($("begin").value).toFixed(1)} s`;
  $("alpha-hint").textContent = alpha() === 1 ? "Off: frames are evenly spaced."
    : `The clip is made of the frames with most changing tokens, among ${alpha()} times as many.`;
}

// ---- what is shown

// Sends what is set last, one question at a time, however fast a slider moves.
async function refresh() {
  state.wanted = true;
  if (state.running || !state.video) return;
  state.running = true;
  state.thinking?.abort();
  const before = performance.now();
  try {
    while (state.wanted) {
      state.wanted = false;
      const asked = { video: state.video, choice: choice() };
      const answer = await post(`/api/videos/${asked.video.key}/look`, { choice: asked.choice, has: state.clip });
      if (asked.video === state.video) await showLook(answer, asked.choice);
    }
    showError("");
    document.body.dataset.milliseconds = Math.round(performance.now() - before);
  } catch (problem) {
    showError(problem.message);
    return;
  } finally {
    state.running = false;
  }
  think();
}

async function think() {
  state.thinking?.abort();
  const controller = state.thinking = new AbortController();
  const stale = ["saved", "cost", "classes", "reconstructed"].map($);
  for (const shown of stale) shown.classList.add("stale");
  document.body.dataset.thinking = true;
  try {
    const path = `/api/videos/${state.video.key}/think`;
    const answer = await post(path, { choice: choice() }, { signal: controller.signal });
    if (!controller.signal.aborted) await showThought(answer);
  } catch (problem) {
    if (problem.name === "AbortError") return;
    showError(problem.message);
  }
  if (controller.signal.aborted) return;
  for (const shown of stale) shown.classList.remove("stale");
  document.body.dataset.thinking = false;
}

async function showLook(answer, asked) {
  const { numbers } = answer;
  const films = { kept: await Film.load(answer.kept) };
  for (const name of ["video", "scores", "candidates"]) if (answer[name]) films[name] = await Film.load(answer[name]);
  Object.assign(state.films, films);
  state.clip = answer.clip;
  state.look = answer;
  $("welcome").hidden = true;
  $("results").hidden = false;
  if (!$("begin").dataset.moved) $("begin").value = numbers.seconds[0];
  describe();
  showNumbers(numbers, asked);
  player.show(state.films);
  showSlots(numbers);
  showFrames(numbers);
  showLacking(asked);
}

function showNumbers(numbers, asked) {
  const { video } = state;
  const computed = numbers.num_encoded + numbers.num_predicted;
  const from = numbers.seconds[0].toFixed(1);
  $("title").replaceChildren(video.name, element("span", {},
    ` · ${video.seconds.toFixed(1)} s, ${video.width} × ${video.height} · shown: ${from} s to ${numbers.end.toFixed(1)} s · ` +
    `scored by ${numbers.embedding}`));
  $("share").textContent = percent(computed / numbers.num_tokens);
  $("counts").textContent = numbers.num_predicted
    ? `${number(numbers.num_encoded)} encoded and ${number(numbers.num_predicted)} predicted, of ${number(numbers.num_tokens)}`
    : `${number(computed)} of ${number(numbers.num_tokens)}`;
  $("change").textContent = percent(numbers.change_kept);
  const keys = [[" encoded", "encoded"], ...(asked.task === "pretrain" ? [[" hidden and predicted", "predicted"]] : []),
    [" left out", "dropped"]];
  $("kept-caption").replaceChildren(element("strong", {}, "What is computed. "));
  keys.forEach(([text, name], place) => $("kept-caption").append(
    element("span", { class: `key ${name}` }), text + (place < keys.length - 1 ? ", " : "")));
}

function showSlots(numbers) {
  const columns = numbers.per_slot.map((count, slot) => {
    const bar = element("i");
    bar.style.height = `${(100 * count) / numbers.tokens_per_slot}%`;
    const when = `${numbers.seconds[slot].toFixed(2)} s`;
    return element("div", { class: "count" }, element("div", { class: "bar" }, bar), element("b", {}, String(count)), when);
  });
  $("slots").replaceChildren(
    row(...state.films.video.canvases("The clip")), row(...state.films.kept.canvases("Kept tokens")), row(...columns));
  const least = Math.min(...numbers.per_slot), most = Math.max(...numbers.per_slot);
  $("slots-hint").textContent = `Each slot has ${numbers.tokens_per_slot} tokens; between ${least} and ${most} are computed. ` +
    "The first two slots have the same scores, because nothing comes before the first.";
}

function showFrames(numbers) {
  $("frames").hidden = !numbers.frames;
  if (!numbers.frames) return;
  const { counts, chosen } = numbers.frames;
  $("frames-hint").textContent = `${chosen.length} of ${counts.length} candidates make the clip, framed in orange. The number ` +
    "says how many of the tokens that change most lie in a candidate. " + (task() === "pretrain"
      ? "In learning frames are drawn by lot, the likelier the higher the number: a lower one may win."
      : "The highest numbers win.");
  const pictures = state.films.candidates.canvases("Candidate frame");
  $("candidates").replaceChildren(...pictures.map((canvas, place) => element(
    "figure", chosen.includes(place) ? { class: "chosen" } : {}, canvas, element("figcaption", {}, String(counts[place])))));
}

function showLacking(asked) {
  const { start } = state;
  const lacks = asked.task === "pretrain" ? !start.can_reconstruct : !start.can_predict;
  $("lacking").hidden = !lacks || start.is_random;
  $("lacking").textContent = asked.task === "pretrain"
    ? "No reconstruction: that takes a checkpoint that was pre-trained to predict pixels. Name one when you start everest ui."
    : "No prediction: that takes a fine-tuned classifier. Name one when you start everest ui.";
}

async function showThought({ cost, classes, reconstruction }) {
  if (cost) {
    const saved = 1 - cost.gmacs / cost.full_gmacs;
    const isLess = saved >= -0.004;
    $("saved-title").textContent = isLess ? "Work saved" : "More work";
    $("saved").textContent = percent(isLess ? Math.max(0, saved) : -saved);
    const frames = cost.frames_gmacs ? ` ${cost.frames_gmacs.toPrecision(2)} of them choose the frames.` : "";
    $("cost").textContent = `${cost.gmacs.toPrecision(3)} instead of ${cost.full_gmacs.toPrecision(3)} billion multiply-adds ` +
      `for one clip: ${cost.model}, compared with ${cost.full}.${frames}`;
  } else {
    $("saved-title").textContent = "Work saved";
    $("saved").textContent = "–";
    $("cost").textContent = "not counted: the teachers of this checkpoint look at everything";
  }
  $("prediction").hidden = !classes;
  $("classes").replaceChildren(...(classes ?? []).map(([name, probability]) => {
    const bar = element("i");
    bar.style.width = percent(probability, 1).replace(" ", "");
    return element("div", { class: "class" }, element("span", {}, name), element("div", {}, bar),
      element("span", {}, percent(probability, 1)));
  }));
  $("reconstruction").hidden = !reconstruction;
  const rows = [];
  for (const { label, ...film } of reconstruction ?? []) {
    rows.push(rowLabel(label), row(...(await Film.load(film)).canvases(label)));
  }
  $("reconstructed").replaceChildren(...rows);
}

// ---- at first

function listen() {
  $("file").addEventListener("change", () => {
    if ($("file").files.length) openFile($("file").files[0]);
    $("file").value = "";
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault(); // or the browser would leave the page for the file
      $("drop").classList.toggle("over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files.length) openFile(event.dataTransfer.files[0]);
    });
  }
  $("ratio").addEventListener("input", () => { describe(); refresh(); });
  $("begin").addEventListener("input", () => { $("begin").dataset.moved = "yes"; describe(); refresh(); });
  $("method").addEventListener("change", () => { describe(); refresh(); });
  $("alphas").addEventListener("change", () => { describe(); refresh(); });
  $("tasks").addEventListener("change", () => { setDefaults(); refresh(); });
  $("play").addEventListener("click", () => play(!player.timer));
  const aside = document.querySelector("aside"); // stays in sight while results are scrolled, down to its end
  new ResizeObserver(() => {
    aside.style.top = `${Math.min(16, innerHeight - aside.offsetHeight - 16)}px`;
  }).observe(aside);
  addEventListener("pagehide", forget);
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); }); // its video was forgotten
}

function play(isOn) {
  player.play(isOn);
  $("play").textContent = isOn ? "pause" : "play";
  $("play").setAttribute("aria-pressed", String(isOn));
}

async function begin() {
  state.start = await ask("/api/start");
  const { start } = state;
  $("max-size").textContent = `${number(start.max_bytes / 1e6)} MB`;
  $("random-note").hidden = !start.is_random;
  for (const { name, short } of start.methods) $("method").append(element("option", { value: name }, short));
  const known = Object.values(start.tasks).map((values) => values.alpha);
  for (const value of [...new Set([...start.alphas, ...known])].sort((a, b) => a - b)) {
    const input = element("input", { type: "radio", name: "alpha", value: String(value) });
    $("alphas").append(element("label", {}, input, element("span", {}, value === 1 ? "off" : `${value} ×`)));
  }
  start.examples.forEach(({ name }, place) => {
    const image = element("img", { src: `/api/examples/${place}.jpg`, alt: "", loading: "lazy" });
    const button = element("button", { type: "button", "data-number": String(place), "aria-pressed": "false" }, image, name);
    button.addEventListener("click", () => open(() => post(`/api/examples/${place}`, {}), place));
    $("examples").append(button);
  });
  document.querySelector(`input[name=task][value=${start.first}]`).checked = true;
  setDefaults();
  listen();
  play(!matchMedia("(prefers-reduced-motion: reduce)").matches);
  document.body.dataset.ready = true;
}

begin().catch((problem) => showError(problem.message));
