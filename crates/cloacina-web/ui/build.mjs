// Builds the page into ../assets (run: node build.mjs). The result depends only on the sources and the lock file.
import { createHash } from "node:crypto";
import { cpSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const out = process.argv[2] ?? join(here, "..", "assets");

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
await build({
  absWorkingDir: here,
  bundle: true,
  charset: "utf8",
  entryPoints: { app: "src/main.tsx" },
  format: "esm",
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none",
  minify: true,
  outdir: out,
  target: ["chrome123", "firefox120", "safari17.5"],
});
await build({
  absWorkingDir: here,
  bundle: true,
  entryPoints: { app: "src/styles/app.css" },
  minify: true,
  outdir: out,
  target: ["chrome123", "firefox120", "safari17.5"],
});
for (const name of ["index.html", "icon.svg", "icon-alert.svg"]) {
  cpSync(join(here, name), join(out, name));
}

// The licenses of the packages that are part of app.js.
const packages = ["preact", "@preact/signals", "@preact/signals-core"];
const licenses = packages.map((name) => {
  const folder = join(here, "node_modules", name);
  const { version } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  return `${name} ${version}\n\n${readFileSync(join(folder, "LICENSE"), "utf8").trim()}\n`;
});
writeFileSync(join(out, "THIRD_PARTY.txt"), licenses.join("\n---\n\n"));

// For each file that is served unchanged, writes the entity tag into a file beside it.
const digest = (path) => createHash("sha256").update(readFileSync(path)).digest("hex");
for (const name of ["app.js", "app.css", "icon.svg", "icon-alert.svg", "THIRD_PARTY.txt"]) {
  writeFileSync(join(out, `${name}.etag`), `"${digest(join(out, name)).slice(0, 16)}"`);
}

// MANIFEST contains the digests of the sources. A check compares them to tell, without Node, whether the assets are up to date.
const sources = ["build.mjs", "index.html", "icon.svg", "icon-alert.svg", "package.json", "package-lock.json", "schema.mjs", "../openapi.json"];
for (const entry of readdirSync(join(here, "src"), { recursive: true, withFileTypes: true })) {
  if (entry.isFile()) sources.push(join(entry.parentPath, entry.name).slice(here.length + 1));
}
const lines = sources.sort().map((name) => `${digest(join(here, name))}  ${name}\n`);
writeFileSync(join(out, "MANIFEST"), lines.join(""));
