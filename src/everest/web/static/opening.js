"use strict";
// Opening videos: what was chosen last is shown, whatever is finished last.

function showError(text) {
  $("error").textContent = text;
  $("error").hidden = !text;
}

function busy(isOn) {
  $("busy").hidden = !isOn;
  document.body.dataset.busy = isOn;
}

async function open(getVideo, example = null) {
  state.opening?.leave();
  const opening = state.opening = { leave() {} };
  const isLatest = () => state.opening === opening;
  showError("");
  busy(true);
  try {
    const video = await getVideo(opening);
    if (!isLatest()) return forget(video);
    forget(state.video);
    state.video = video;
    state.clip = "";
    for (const button of $("examples").children) {
      button.setAttribute("aria-pressed", String(button.dataset.number === String(example)));
    }
    resetBegin();
    await refresh();
  } catch (problem) {
    if (isLatest()) showError(problem.message);
  } finally {
    if (isLatest()) busy(false);
  }
}

function openFile(file) {
  return open(async (opening) => {
    const limit = state.start.max_bytes;
    if (file.size > limit) throw new Error(`${file.name} is larger than ${number(limit / 1e6)} MB: cut it first.`);
    return upload(file, opening);
  });
}

function upload(file, opening) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch does not say how far it is
    const showProgress = (share) => {
      if (state.opening !== opening) return;
      $("progress").hidden = share === null;
      $("progress").firstElementChild.style.width = `${100 * (share ?? 0)}%`;
    };
    let isSent = false; // then the server opens it, and has to be told the key of what is closed
    request.open("POST", "/api/videos");
    request.setRequestHeader("X-Name", encodeURIComponent(file.name));
    request.responseType = "json";
    request.upload.onprogress = (event) => showProgress(event.loaded / Math.max(1, event.total));
    request.upload.onload = () => { isSent = true; };
    request.onloadend = () => {
      showProgress(null);
      if (request.status === 200) resolve(request.response);
      else reject(new Error(request.response?.error ?? "The upload broke off. Is everest ui still running?"));
    };
    opening.leave = () => {
      showProgress(null);
      if (!isSent) request.abort();
    };
    request.send(file);
  });
}

function forget(video) {
  if (video) navigator.sendBeacon(`/api/videos/${video.key}/close`);
}
