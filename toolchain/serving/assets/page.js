// The answer follows the typing. Whatever comes back is written as text, never as markup.

const PAUSE_MS = 120;
const SPOKEN_PAUSE_MS = 1000; // a screen reader hears the answer once the typing rests
const DOUBTFUL_SHARE = 0.3;
const SHADES = 3;

const element = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const route = document.body.dataset.route;
const box = element("text");

let timer;
let spoken;
let shown = null;
let busy = false;

/** Asks for what stands in the box until that is what is shown: one question at a time, the last one counts. */
async function follow() {
  if (busy) {
    return;
  }
  busy = true;
  while (shown !== box.value) {
    shown = box.value;
    try {
      show(shown.trim() ? await ask(shown) : null);
    } catch (error) {
      show(null);
      element("counts").textContent = `No answer: ${error.message}`;
    }
  }
  busy = false;
}

async function ask(text) {
  const response = await fetch(route, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ text }),
  });
  const answer = await response.json();
  if (!response.ok) {
    throw new Error(answer.detail);
  }
  return answer;
}

function show(answer) {
  element("answer").dataset.state = answer ? "scored" : "empty";
  element("verdict").textContent = answer ? answer.label : "The label appears here";
  element("counts").textContent = answer ? describeWords(answer) : "";
  showBars(answer);
  showMarked(answer?.pieces ?? []);
  clearTimeout(spoken);
  spoken = setTimeout(() => {
    element("spoken").textContent = answer ? `${answer.label}, ${percent(answer.confidence)}` : "";
  }, SPOKEN_PAUSE_MS);
}

/** A bar for each label, in the order of the answer; those that stand there already only change their length. */
function showBars(answer) {
  const bars = element("bars");
  const shares = answer ? Object.entries(answer.probabilities) : [];
  if (answer && [...bars.querySelectorAll("dt")].map((name) => name.textContent).join() !== Object.keys(answer.probabilities).join()) {
    bars.replaceChildren(...shares.map(([label], index) => makeBar(label, index, shares.length)));
  }
  for (const [index, row] of [...bars.children].entries()) {
    const share = shares[index]?.[1] ?? 0;
    row.classList.toggle("best", shares[index]?.[0] === answer?.label && answer !== null);
    row.style.setProperty("--share", share);
    row.querySelector(".figure").textContent = percent(share);
  }
}

function makeBar(label, index, count) {
  const row = document.createElement("div");
  const name = document.createElement("dt");
  const value = document.createElement("dd");
  const track = document.createElement("span");
  const figure = document.createElement("span");
  track.className = "track";
  figure.className = "figure";
  track.append(document.createElement("span"));
  name.textContent = label;
  value.append(track, figure);
  row.append(name, value);
  row.style.setProperty("--hue", 14 + (index / Math.max(1, count - 1)) * 160); // coral to teal
  return row;
}

/** The text with its words shaded by what they did, three shades a side. */
function showMarked(pieces) {
  const largest = Math.max(...pieces.map(({ share }) => Math.abs(share ?? 0)), 0);
  element("marked").replaceChildren(
    ...pieces.map(({ text, share }) => {
      const level = share ? Math.ceil((SHADES * Math.abs(share)) / largest - 0.5) : 0;
      if (!level) {
        return document.createTextNode(text);
      }
      const mark = document.createElement("mark");
      mark.className = `${share > 0 ? "for" : "against"}-${level}`;
      mark.textContent = text;
      return mark;
    }),
  );
}

function describeWords({ tokens, unknown }) {
  const words = `${tokens.toLocaleString("en")} ${tokens === 1 ? "word" : "words"}`;
  const counts = `${words}, ${unknown ? unknown.toLocaleString("en") : "none"} unknown to the model`;
  return unknown > DOUBTFUL_SHARE * tokens ? `${counts}: do not lean on this answer.` : `${counts}.`;
}

box.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(follow, PAUSE_MS);
});
for (const sample of document.querySelectorAll(".chip")) {
  sample.addEventListener("click", () => {
    box.value = sample.textContent;
    follow();
  });
}
element("curl").textContent =
  `curl ${new URL("score", location.href)} \\\n  -H 'Content-Type: application/json' \\\n  -d '{"text": "A lively film."}'`;
follow();
