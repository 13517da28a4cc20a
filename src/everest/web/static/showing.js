"use strict";
// Answers of the server, put into the page.

const $ = (id) => document.getElementById(id);
const percent = (share, digits = 0) => `${(100 * share).toFixed(digits)} %`;
const number = (value) => Math.round(value).toLocaleString("en");

async function showLook(answer, { video, choice: asked }) {
  const { numbers } = answer;
  const films = { kept: await Film.load(answer.kept) };
  for (const name of ["video", "scores", "candidates"]) if (answer[name]) films[name] = await Film.load(answer[name]);
  if (video !== state.video) return;
  Object.assign(state.films, films);
  state.clip = answer.clip;
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
  $("change").textContent = numbers.is_still ? "–" : percent(numbers.change_kept);
  $("change-hint").textContent = numbers.is_still
    ? "Nothing changes in this clip, so what is kept says nothing." : "of all change in the clip lies in computed tokens";
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
