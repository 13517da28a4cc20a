"use strict";
// What a person sets, and when the server is asked.

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

const state = { start: null, video: null, clip: "", films: {}, running: false, wanted: false, thinking: null, opening: null };
const player = new Player([...document.querySelectorAll("#player canvas")]);

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

// ---- asking

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
      try {
        const answer = await post(`/api/videos/${asked.video.key}/look`, { choice: asked.choice, has: state.clip });
        await showLook(answer, asked);
      } catch (problem) {
        if (!state.wanted && asked.video === state.video) throw problem; // else something newer is asked for next
      }
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
  await new Promise((goOn) => setTimeout(goOn, 100)); // while a slider moves, nothing slow is begun
  if (controller.signal.aborted) return;
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
  addEventListener("pagehide", () => forget(state.video));
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
    const image = element("img", { src: `/api/examples/${place}.png`, alt: "", loading: "lazy" });
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
