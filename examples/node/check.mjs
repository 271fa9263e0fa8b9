// Exit 1 on the first vector that is not reproduced here: node check.mjs BUNDLE [VECTORS]
import { readFileSync } from "node:fs";
import { Scorer } from "./scorer.mjs";

const [bundle, file = `${bundle}/vectors.jsonl`] = process.argv.slice(2);
const { tolerance, labels } = JSON.parse(readFileSync(`${bundle}/manifest.json`, "utf8"));
const lines = readFileSync(file, "utf8").split("\n").slice(0, -1); // readline would also split at U+2028
const vectors = lines.map((line) => JSON.parse(line));
if (!vectors.length) throw new Error(`${file}: holds no vectors; export the bundle anew`);

const scorer = await Scorer.open(bundle);
const answers = await scorer.score(vectors.map(({ text }) => text));
let worst = 0;
for (const [index, { label, probabilities }] of vectors.entries()) {
  const answer = answers[index];
  const shares = labels.map((name) => answer.probabilities[name]);
  const difference = Math.max(...probabilities.map((value, i) => Math.abs(value - shares[i])));
  if (answer.label !== label || !(difference <= tolerance)) {
    const said = `${answer.label} ${shares}`;
    console.error(`${file}, line ${index + 1}: ${said} is beyond ${tolerance} of the vector`);
    process.exit(1);
  }
  worst = Math.max(worst, difference);
}
console.log(`${vectors.length} vectors agree, the worst within ${worst.toExponential(1)}`);
await scorer.close();
