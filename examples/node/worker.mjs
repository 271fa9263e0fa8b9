// The thread that runs the model: an array of texts comes in, { answers } or { error } goes out.
import ort from "onnxruntime-node";
import { parentPort, workerData } from "node:worker_threads";

const session = await ort.InferenceSession.create(workerData.model);

async function score(texts) {
  const text = new ort.Tensor("string", texts, [texts.length]);
  const { label, probabilities } = await session.run({ text }, ["label", "probabilities"]);
  const classes = probabilities.dims[1];
  return texts.map((_, row) => ({
    label: label.data[row],
    probabilities: Array.from(probabilities.data.subarray(row * classes, (row + 1) * classes)),
  }));
}

parentPort.on("message", async (texts) => {
  try {
    parentPort.postMessage({ answers: await score(texts) });
  } catch (error) {
    parentPort.postMessage({ error: error.message });
  }
});
parentPort.postMessage("ready");
