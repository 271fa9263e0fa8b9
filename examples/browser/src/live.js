// The text box: its answer follows the typing.

const PAUSE_MS = 120;
const SPOKEN_PAUSE_MS = 1000; // a screen reader hears the answer once the typing rests
const DOUBTFUL_SHARE = 0.3;

const element = (id) => document.getElementById(id);

/** Connects the text box, the samples and the answer below them to the model. */
export function startLive(model, labels) {
  const box = element("text");
  const bars = labels.map((label, index) => makeBar(label, index, labels.length));
  element("bars").replaceChildren(...bars.map((bar) => bar.row));

  let timer;
  let spoken;
  let shown = null;
  let busy = false;

  /** Scores what stands in the box until that is what is shown: one question at a time, the last one counts. */
  async function follow() {
    if (busy) {
      return;
    }
    busy = true;
    while (shown !== box.value) {
      shown = box.value;
      try {
        show(shown.trim() ? (await model.score([shown]))[0] : null);
      } catch (error) {
        show(null);
        element("counts").textContent = `This text could not be scored: ${error.message}`;
      }
    }
    busy = false;
  }

  function show(score) {
    element("answer").dataset.state = score ? "scored" : "empty";
    const best = score ? score.probabilities.indexOf(Math.max(...score.probabilities)) : -1;
    element("verdict").textContent = score ? score.label : "The label appears here";
    element("counts").textContent = score ? describeWords(score) : "";
    bars.forEach((bar, index) => bar.show(score?.probabilities[index] ?? 0, index === best));
    clearTimeout(spoken);
    spoken = setTimeout(() => {
      element("spoken").textContent = score ? `${score.label}, ${percent(score.probabilities[best])}` : "";
    }, SPOKEN_PAUSE_MS);
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
  follow();
}

function makeBar(label, index, count) {
  const row = document.createElement("div");
  const name = document.createElement("dt");
  const value = document.createElement("dd");
  const track = document.createElement("span");
  const figure = document.createElement("span");
  track.className = "track";
  track.append(document.createElement("span"));
  name.textContent = label;
  value.append(track, figure);
  row.append(name, value);
  row.style.setProperty("--hue", hue(index, count));
  return {
    row,
    show(share, isBest) {
      row.classList.toggle("best", isBest);
      row.style.setProperty("--share", share);
      figure.textContent = percent(share);
    },
  };
}

/** Colours told apart from the first label's coral to the last one's teal. */
export function hue(index, count) {
  return 14 + (index / (count - 1)) * 160;
}

export function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

function describeWords({ tokens, unknown }) {
  const words = `${tokens.toLocaleString("en")} ${tokens === 1 ? "word" : "words"}`;
  const counts = `${words}, ${unknown ? unknown.toLocaleString("en") : "none"} unknown to the model`;
  return unknown > DOUBTFUL_SHARE * tokens ? `${counts}: do not lean on this answer.` : `${counts}.`;
}
