/** Makes the component: `npm run build [FILE.wasm]`. */

import { mkdir, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";

import { componentize } from "@bytecodealliance/componentize-js";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const target = process.argv[2] ?? here("dist/shout-js.wasm");

const { component } = await componentize({
  sourcePath: here("handler.js"),
  witPath: here("../../../wit/0.1.0"),
  worldName: "plugin",
  // A plugin has no network. With these in it the component would import what the broker does not give.
  disableFeatures: ["http", "fetch-event"],
});
await mkdir(dirname(target), { recursive: true });
await writeFile(target, component);
console.log(`${target}: ${component.length} bytes`);
