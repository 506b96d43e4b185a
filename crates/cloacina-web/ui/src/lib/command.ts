// Commands for a terminal.
import { meta } from "./meta.ts";

function quoted(text: string): string {
  return /^[\w:/.@,%+~=-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** Adds the options that name the server's database. A database in memory exists only in the server's process. */
export function onDatabase(command: string): string {
  const [, location, schema] = /^(.*?)(?: \(schema (.+)\))?$/s.exec(meta.value?.location ?? "") ?? [];
  if (!location || location.endsWith(":memory:")) return command;
  return `${command} -c ${quoted(location)}${schema ? ` --schema ${quoted(schema)}` : ""}`;
}
