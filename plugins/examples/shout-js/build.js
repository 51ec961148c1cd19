/** Builds the component: `npm run build [FILE.wasm]`. */

import { cp, mkdir, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";

import { componentize } from "@bytecodealliance/componentize-js";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const target = process.argv[2] ?? here("dist/shout-js.wasm");

// The plugin's own world, with the broker's contract as its dependency.
await cp(here("world.wit"), here("dist/wit/world.wit"));
await cp(here("../../../wit/0.1.0"), here("dist/wit/deps/switchboard-plugin"), { recursive: true });

const { component } = await componentize({
  sourcePath: here("handler.js"),
  witPath: here("dist/wit"),
  worldName: "plugin",
  // A plugin has no network. With these features, the component would import what the broker refuses.
  disableFeatures: ["http", "fetch-event"],
});
await mkdir(dirname(target), { recursive: true });
await writeFile(target, component);
console.log(`${target}: ${component.length} bytes`);
