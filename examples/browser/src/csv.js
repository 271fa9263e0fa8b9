// CSV in and out, as plain values; Papa Parse (lib/papaparse.js) reads and writes the quoting.

const DELIMITERS = [",", "\t", ";", "|"];
const TEXT_COLUMNS = ["text", "review", "content", "body", "comment", "message", "sentence", "document", "review_text"];
const BOM = "\uFEFF";

/**
 * Reads a file's bytes into {header, rows, delimiter, newline, bom}; blank lines are left out.
 *
 * Throws an Error with a sentence for the user where they are no CSV in UTF-8 with a header and a row.
 */
export function readCsv(bytes) {
  const decoded = decode(bytes);
  const bom = decoded.startsWith(BOM) ? BOM : "";
  const content = decoded.slice(bom.length);
  const delimiter = detectDelimiter(content);
  const { data, errors, meta } = Papa.parse(content, { delimiter, skipEmptyLines: true });
  if (errors.length) {
    throw new Error(`record ${errors[0].row + 1}: a quote is not closed, or stands where none may be.`);
  }
  if (data.length < 2) {
    throw new Error("there are no rows; the file needs a line with the column names and a row for each review.");
  }
  const [header, ...rows] = data;
  return { header, rows, delimiter, newline: meta.linebreak, bom };
}

/** The index of the column that holds the text: by its name, or the one with the most to read. */
export function guessTextColumn({ header, rows }) {
  const names = header.map(normalize);
  const wanted = TEXT_COLUMNS.find((name) => names.includes(name));
  if (wanted) {
    return names.indexOf(wanted);
  }
  const head = rows.slice(0, 100);
  const lengths = header.map((_, column) => head.reduce((sum, row) => sum + (row[column]?.length ?? 0), 0));
  return lengths.indexOf(Math.max(...lengths));
}

/** The table with `prediction` and `confidence` behind its columns; both are empty where `scores` has no entry. */
export function writeCsv({ header, rows, delimiter, newline, bom }, scores) {
  const width = header.length;
  const scored = rows.map((row, index) => {
    const score = scores[index];
    const padded = row.length < width ? [...row, ...Array(width - row.length).fill("")] : row;
    return [...padded, score?.label ?? "", score ? Math.max(...score.probabilities).toFixed(6) : ""];
  });
  const names = ["prediction", "confidence"].map((name) => freeName(name, header));
  return bom + Papa.unparse([[...header, ...names], ...scored], { delimiter, newline }) + newline;
}

function decode(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new Error("the file is not UTF-8; save it as “CSV UTF-8” and try again.");
  }
}

/** The one under which the header names a text column; else the one that cuts it into the most columns. */
function detectDelimiter(content) {
  const headers = DELIMITERS.map((delimiter) => Papa.parse(content, { delimiter, preview: 1 }).data[0] ?? []);
  const named = headers.findIndex((names) => names.some((name) => TEXT_COLUMNS.includes(normalize(name))));
  const widths = headers.map((names) => names.length);
  return DELIMITERS[named >= 0 ? named : widths.indexOf(Math.max(...widths))];
}

function normalize(name) {
  return name.trim().toLowerCase();
}

function freeName(name, taken) {
  let free = name;
  for (let number = 2; taken.includes(free); number++) {
    free = `${name}_${number}`;
  }
  return free;
}
