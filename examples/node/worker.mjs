// The thread that runs the model: an array of texts comes in, { answers } or { error } goes out.
import ort from "onnxruntime-node";
import { parentPort, workerData } from "node:worker_threads";

const { model, labels } = workerData;
const session = await ort.InferenceSession.create(model);

async function score(texts) {
  const text = new ort.Tensor("string", texts, [texts.length]);
  const { label, probabilities, tokens, unknown } = await session.run({ text });
  return texts.map((_, row) => {
    const shares = Array.from(probabilities.data.subarray(row * labels.length, (row + 1) * labels.length));
    return {
      label: label.data[row],
      confidence: shares[labels.indexOf(label.data[row])],
      probabilities: Object.fromEntries(labels.map((name, index) => [name, shares[index]])),
      tokens: Number(tokens.data[row]),
      unknown: Number(unknown.data[row]),
    };
  });
}

parentPort.on("message", async (texts) => {
  try {
    parentPort.postMessage({ answers: await score(texts) });
  } catch (error) {
    parentPort.postMessage({ error: error.message });
  }
});
parentPort.postMessage("ready");
