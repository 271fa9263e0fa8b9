// Puts the page together in one folder that any static web server can serve: node build.mjs BUNDLE [OUT]
// The page's own files, the look that it shares with the page of toolchain serve, ONNX Runtime and Papa Parse from
// node_modules, and from the bundle the model, its manifest and its vectors.

import { createHash } from "node:crypto";
import { cp, mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const HERE = dirname(fileURLToPath(import.meta.url));

const TOOLCHAIN = join(HERE, "..", "..", "toolchain");
const STYLES = {
  "look.css": "look.css",
  "serving/assets/page.css": "page.css",
};

// Renamed to .js, because some web servers do not know .mjs and browsers refuse a module of an unknown type.
const LIBRARIES = {
  "onnxruntime-web/dist/ort.wasm.min.mjs": "lib/ort.js",
  "onnxruntime-web/dist/ort-wasm-simd-threaded.mjs": "lib/ort-wasm.js",
  "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm": "lib/ort-wasm.wasm",
  "papaparse/papaparse.min.js": "lib/papaparse.js",
};

/** Copies one file of the bundle; throws where it is not the file that the manifest names. */
async function copyVerified(bundle, out, file, manifest) {
  const data = await readFile(join(bundle, file));
  const digest = createHash("sha256").update(data).digest("hex");
  if (digest !== manifest.files[file]?.sha256) {
    throw new Error(`${join(bundle, file)} is not the file of the manifest; export the bundle again`);
  }
  await writeFile(join(out, file), data);
}

async function build(bundle, out) {
  const manifest = JSON.parse(await readFile(join(bundle, "manifest.json"), "utf8"));
  await mkdir(join(out, "lib"), { recursive: true });
  await cp(join(HERE, "src"), out, { recursive: true });
  for (const [from, to] of Object.entries(STYLES)) {
    await cp(join(TOOLCHAIN, from), join(out, to));
  }
  for (const [from, to] of Object.entries(LIBRARIES)) {
    await cp(join(HERE, "node_modules", from), join(out, to));
  }
  await cp(join(bundle, "manifest.json"), join(out, "manifest.json"));
  for (const file of ["model.onnx", "vectors.jsonl"]) {
    await copyVerified(bundle, out, file, manifest);
  }
}

const [bundle, out = join(HERE, "dist")] = process.argv.slice(2);
if (!bundle) {
  console.error("usage: node build.mjs BUNDLE [OUT]");
  process.exit(2);
}
try {
  await build(bundle, out);
  console.log(out);
} catch (error) {
  console.error(`build: ${error.message}`);
  process.exit(2);
}
