// Loads the manifest and the model, then brings the three parts of the page to life.

import { checkVectors } from "./check.js";
import { startFiles } from "./file.js";
import { startLive } from "./live.js";
import { Model } from "./model.js";

const LONG_FACT = 24; // characters: a longer one has a line of its own

const element = (id) => document.getElementById(id);

function setState(state, text) {
  element("state").dataset.state = state;
  element("status").textContent = text;
  element("loading").hidden = state !== "loading";
}

async function fetchManifest() {
  const response = await fetch("manifest.json");
  if (!response.ok) {
    throw new Error(`manifest.json: the server answered ${response.status}; build the page with a bundle first`);
  }
  return response.json();
}

/** Terms and figures that a person wants to know of a model; those that the manifest has. */
function describeModel({ training = {}, labels, specification }) {
  const number = (value) => value?.toLocaleString("en");
  const share = (value) => (typeof value === "number" ? `${value.toFixed(1)} %` : undefined);
  const reviews = training.reviews?.train;
  const facts = {
    Recipe: training.recipe,
    Labels: labels.join(", "),
    "Trained on": training.data && (reviews ? `${training.data}, ${number(reviews)} reviews` : training.data),
    "Test accuracy": share(training.test_accuracy),
    "Validation accuracy": training.test_accuracy === undefined ? share(training.validation_accuracy) : undefined,
    Vocabulary: training.vocabulary && `${number(training.vocabulary)} words`,
    Network: `${specification.layers} × ${specification.cell.toUpperCase()} ${specification.hidden}`,
  };
  return Object.entries(facts).filter(([, fact]) => fact);
}

function showModel(manifest) {
  const rows = describeModel(manifest).map(([term, fact]) => {
    const row = document.createElement("div");
    const name = document.createElement("dt");
    const value = document.createElement("dd");
    name.textContent = term;
    value.textContent = fact;
    row.classList.toggle("wide", fact.length > LONG_FACT);
    row.append(name, value);
    return row;
  });
  element("card").replaceChildren(...rows);
}

async function check(model, { tolerance }) {
  const bar = element("checked");
  const report = element("check-report");
  element("check").disabled = true;
  bar.hidden = false;
  report.textContent = "";
  try {
    const result = await checkVectors(model, tolerance, (share) => (bar.value = share));
    const failed = result.agreeing < result.total;
    report.dataset.state = failed ? "error" : "done";
    report.textContent =
      `${result.agreeing.toLocaleString("en")} of ${result.total.toLocaleString("en")} texts agree; ` +
      `largest difference ${result.maxDifference.toExponential(1)}, tolerance ${tolerance.toExponential(0)}.` +
      (failed ? ` First: ${JSON.stringify(result.firstBad.slice(0, 60))}` : "");
  } catch (error) {
    report.dataset.state = "error";
    report.textContent = error.message;
  }
  bar.hidden = true;
  element("check").disabled = false;
}

async function start() {
  setState("loading", "Loading the model…");
  const manifest = await fetchManifest();
  showModel(manifest);
  element("loading").max = manifest.files["model.onnx"].bytes;
  const model = await Model.load((loaded) => (element("loading").value = loaded));
  startLive(model, manifest.labels);
  startFiles(model, manifest.labels);
  element("check").addEventListener("click", () => check(model, manifest));
  for (const control of document.querySelectorAll("#text, .chip, #file, #check")) {
    control.disabled = false;
  }
  setState("ready", "Ready");
  if (new URLSearchParams(location.search).has("check")) {
    check(model, manifest);
  }
}

start().catch((error) => setState("error", `The model could not be loaded: ${error.message}`));
