// The conformance vectors of the bundle: texts with the answers that PyTorch gives.

const TEXTS_A_SLICE = 20;

/** Scores every vector; gives {total, agreeing, maxDifference, firstBad} and tells `onProgress` the share done. */
export async function checkVectors(model, tolerance, onProgress) {
  const response = await fetch("vectors.jsonl");
  if (!response.ok) {
    throw new Error(`vectors.jsonl: the server answered ${response.status}`);
  }
  const lines = (await response.text()).split("\n").filter(Boolean);
  const vectors = lines.map((line) => JSON.parse(line));
  const result = { total: vectors.length, agreeing: 0, maxDifference: 0, firstBad: null };
  for (let at = 0; at < vectors.length; at += TEXTS_A_SLICE) {
    const slice = vectors.slice(at, at + TEXTS_A_SLICE);
    const scores = await model.score(slice.map((vector) => vector.text));
    slice.forEach((vector, index) => compare(vector, scores[index], tolerance, result));
    onProgress((at + slice.length) / vectors.length);
  }
  return result;
}

function compare(vector, score, tolerance, result) {
  const difference = Math.max(...vector.probabilities.map((p, index) => Math.abs(p - score.probabilities[index])));
  result.maxDifference = Math.max(result.maxDifference, difference);
  const agrees =
    difference <= tolerance &&
    (vector.label === score.label || isTie(vector, tolerance)) &&
    vector.tokens === score.tokens &&
    vector.unknown === score.unknown;
  if (agrees) {
    result.agreeing++;
  } else {
    result.firstBad ??= vector.text;
  }
}

/** Whether the two best labels are so near that rounding may turn them. */
function isTie({ probabilities }, tolerance) {
  const [best, second] = probabilities.toSorted((a, b) => b - a);
  return best - second <= 2 * tolerance;
}
