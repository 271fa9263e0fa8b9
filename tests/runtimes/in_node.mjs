// The same as in_python.py, in the onnxruntime-node of the folder $RUNTIME: FOLDER FILE TOLERANCE on|off
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const BATCH = 32;
const [folder, file, tolerance, patterns] = process.argv.slice(2);
const ort = createRequire(`${process.env.RUNTIME}/`)("onnxruntime-node");
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
console.log(JSON.stringify({ wrong }));
