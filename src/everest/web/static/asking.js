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
