// Texts in, labels and probabilities out. Calls that come while the model runs share its next batch. The model has a
// thread of its own because onnxruntime-node's run() holds up the event loop until it is done.
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { Worker } from "node:worker_threads";

const BATCH_TEXTS = 64;
const BATCH_CHARACTERS = 1 << 16; // with the padding: a batch costs its texts times the longest of them

// What the model cannot be given: some runtimes end a string at U+0000, and UTF-8 has no lone surrogates.
const clean = (text) => text.replaceAll("\0", " ").replace(/\p{Surrogate}/gu, "\uFFFD");

/** Whether there is nothing to score: white space, as Python knows it, and U+0000 alone. */
export const isBlank = (text) =>
  /^[\0\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*$/.test(text);

export class Scorer {
  #worker;
  #queue = [];
  #running = 0;

  static async open(bundle) {
    const manifest = await readFile(`${bundle}/manifest.json`);
    const workerData = { model: `${bundle}/model.onnx`, labels: JSON.parse(manifest).labels };
    const worker = new Worker(new URL("worker.mjs", import.meta.url), { workerData });
    await once(worker, "message");
    return new Scorer(worker, createHash("sha256").update(manifest).digest("hex"));
  }

  /** `bundle` is the SHA-256 of the bundle's manifest. */
  constructor(worker, bundle) {
    this.#worker = worker;
    this.bundle = bundle;
  }

  /** How many texts have no answer yet. */
  get waiting() {
    return this.#queue.length + this.#running;
  }

  /** Strings -> [{ label, confidence, probabilities: { label: … }, tokens, unknown }], in their order; a blank one gets the
   * answer of the zero state. */
  score(texts) {
    const answers = texts.map(
      (text) => new Promise((resolve, reject) => this.#queue.push({ text: clean(text), resolve, reject })),
    );
    if (!this.#running) this.#drain();
    return Promise.all(answers);
  }

  close() {
    return this.#worker.terminate();
  }

  async #drain() {
    while (this.#queue.length) {
      const batch = this.#nextBatch();
      this.#running = batch.length;
      this.#worker.postMessage(batch.map(({ text }) => text));
      const [{ answers, error }] = await once(this.#worker, "message");
      for (const [index, { resolve, reject }] of batch.entries()) {
        if (error) reject(new Error(error));
        else resolve(answers[index]);
      }
    }
    this.#running = 0;
  }

  #nextBatch() {
    let count = 0;
    let longest = 0;
    for (const { text } of this.#queue.slice(0, BATCH_TEXTS)) {
      longest = Math.max(longest, text.length);
      if (count && (count + 1) * longest > BATCH_CHARACTERS) break;
      count += 1;
    }
    return this.#queue.splice(0, count);
  }
}
