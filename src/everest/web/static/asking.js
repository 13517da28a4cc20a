"use strict";
// Questions to the server, and what goes wrong with them as an Error with words for people.

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
