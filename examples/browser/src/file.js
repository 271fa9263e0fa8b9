// The file: chosen or dropped, scored row by row, shown and offered for download. It never leaves the page.

import { guessTextColumn, readCsv, writeCsv } from "./csv.js";
import { hue, percent } from "./live.js";

const LARGEST_MB = 50;
const PREVIEW_ROWS = 6;
const CHARACTERS_A_SLICE = 8000; // a few dozen milliseconds of scoring: between two slices the text box has its turn

const element = (id) => document.getElementById(id);

/** Connects the file picker, the drop zone and the column list to the model. */
export function startFiles(model, labels) {
  let current = null; // the file that is shown: {name, table}
  let run = 0; // counts up: what belongs to an earlier run stops

  /** One run over the file called `name`: `action` gets a function that says whether it is still wanted. */
  async function begin(name, action) {
    const mine = ++run;
    const isCurrent = () => mine === run;
    clear();
    try {
      await action(isCurrent);
    } catch (error) {
      if (isCurrent()) {
        clear();
        report(`${name}: ${error.message}`, "error");
      }
    }
  }

  const open = (file) =>
    begin(file.name, async (isCurrent) => {
      if (file.size > LARGEST_MB * 1e6) {
        throw new Error(`the file is larger than ${LARGEST_MB} MB; score it with toolchain score.`);
      }
      const table = readCsv(await file.arrayBuffer());
      if (isCurrent()) {
        current = { name: file.name, table };
        listColumns(table);
        await score(isCurrent);
      }
    });

  async function score(isCurrent) {
    const { name, table } = current;
    const column = Number(element("column").value);
    element("job").hidden = element("running").hidden = false;
    const started = performance.now();
    const scores = [];
    for (const slice of slices(table, column)) {
      const answers = await model.score(slice.map((row) => table.rows[row][column]));
      if (!isCurrent()) {
        return;
      }
      slice.forEach((row, index) => (scores[row] = answers[index]));
      element("done").value = (slice.at(-1) + 1) / table.rows.length;
    }
    element("running").hidden = true;
    report(`${name}: ${summarize(table, scores, labels, performance.now() - started)}`, "done");
    showPreview(table, scores, column, labels);
    offerDownload(name, writeCsv(table, scores));
  }

  element("file").addEventListener("change", ({ target }) => {
    if (target.files.length) {
      open(target.files[0]);
    }
    target.value = ""; // so that the same file can be chosen again
  });
  element("column").addEventListener("change", () => begin(current.name, score));
  element("cancel").addEventListener("click", () => {
    run++;
    clear();
    report("Cancelled.");
    element("file").focus();
  });
  acceptDrops(open);
}

function clear() {
  element("job").hidden = element("result").hidden = true;
  element("done").value = 0;
  report("");
}

function report(text, state = "") {
  element("report").textContent = text;
  element("report").dataset.state = state;
}

/** A file may be dropped anywhere on the page: beside the zone it would replace the page. */
function acceptDrops(open) {
  const zone = element("drop");
  addEventListener("dragover", (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
  addEventListener("dragleave", ({ relatedTarget }) => {
    if (!relatedTarget) {
      zone.classList.remove("over");
    }
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    if (event.dataTransfer.files.length) {
      open(event.dataTransfer.files[0]);
    }
  });
}

function listColumns(table) {
  const options = table.header.map((name, index) => new Option(name || `(column ${index + 1})`, index));
  element("column").replaceChildren(...options);
  element("column").value = guessTextColumn(table);
}

/** The indices of the rows that can be scored, in portions; a row needs the header's fields and a text. */
function* slices({ header, rows }, column) {
  let slice = [];
  let characters = 0;
  for (const [index, row] of rows.entries()) {
    if (row.length !== header.length || !row[column].trim()) {
      continue;
    }
    slice.push(index);
    characters += row[column].length;
    if (characters >= CHARACTERS_A_SLICE) {
      yield slice;
      slice = [];
      characters = 0;
    }
  }
  if (slice.length) {
    yield slice;
  }
}

function summarize({ rows }, scores, labels, milliseconds) {
  const count = (number) => number.toLocaleString("en");
  const scored = scores.filter(Boolean);
  const left = rows.length - scored.length;
  const found = labels.map((label) => `${label} ${count(scored.filter((score) => score.label === label).length)}`);
  const blank = left ? ` ${count(left)} left blank: no text, or not as many fields as the header.` : "";
  const seconds = (milliseconds / 1000).toFixed(1);
  return `${count(scored.length)} of ${count(rows.length)} rows in ${seconds} s: ${found.join(", ")}.${blank}`;
}

function showPreview({ rows }, scores, column, labels) {
  const lines = rows.slice(0, PREVIEW_ROWS).map((row, index) => {
    const score = scores[index];
    const line = document.createElement("tr");
    const label = document.createElement("span");
    label.textContent = score?.label ?? "";
    if (score) {
      label.className = "label";
      label.style.setProperty("--hue", hue(labels.indexOf(score.label), labels.length));
    }
    line.insertCell().append(row[column] ?? "");
    line.insertCell().append(label);
    line.insertCell().append(score ? percent(Math.max(...score.probabilities)) : "");
    return line;
  });
  element("preview").replaceChildren(...lines);
  element("result").hidden = false;
}

function offerDownload(name, content) {
  const link = element("download");
  URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(new Blob([content], { type: "text/csv" }));
  link.download = name.replace(/(\.[^.]*)?$/, ".scored$1");
}
