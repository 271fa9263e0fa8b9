// The same as in_python.py, in the onnxruntime-node of the folder $RUNTIME: on|off FOLDER FILE TOLERANCE ...
import { readFileSync, writeSync } from "node:fs";
import { createRequire } from "node:module";

const BATCH = 32;
const [patterns, ...named] = process.argv.slice(2);
const ort = createRequire(`${process.env.RUNTIME}/`)("onnxruntime-node");

const wrongAnswers = async (folder, file, tolerance) => {
  const rows = readFileSync(`${folder}/vectors.jsonl`, "utf8").split("\n").slice(0, -1).map((line) => JSON.parse(line));
  const options = { intraOpNumThreads: 1, enableMemPattern: patterns === "on" };
  const session = await ort.InferenceSession.create(`${folder}/${file}`, options);
  const run = (texts) => session.run({ text: new ort.Tensor("string", texts, [texts.length]) }, ["label", "probabilities"]);
  let wrong = 0;
  for (const size of [BATCH, BATCH, 1]) {
    for (let start = 0; start < rows.length; start += size) {
      const batch = rows.slice(start, start + size);
      const { data } = (await run(batch.map(({ text }) => text))).probabilities;
      for (const [index, { probabilities }] of batch.entries()) {
        const off = probabilities.map((value, i) => Math.abs(value - data[index * probabilities.length + i]));
        wrong += Math.max(...off) <= Number(tolerance) ? 0 : 1;
      }
    }
  }
  await run(["", " ", "\n"]);
  return wrong;
};

for (let at = 0; at < named.length; at += 3) {
  const wrong = await wrongAnswers(...named.slice(at, at + 3));
  writeSync(1, `${JSON.stringify({ wrong })}\n`); // at once, for the next may end the process
}
