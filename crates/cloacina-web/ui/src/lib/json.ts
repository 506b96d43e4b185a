// Reads and writes JSON. Numbers keep their exact text.

/** A number as its JSON text, because a JavaScript number would lose digits. */
export class Num {
  constructor(readonly text: string) {}
}

export type Json = null | boolean | string | Num | Json[] | { [name: string]: Json };

const MARK = "\u0000number";
const TOKENS = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

export function parse(text: string): Json {
  const marked = text.replace(TOKENS, (token) => (token.startsWith('"') ? token : `{${JSON.stringify(MARK)}:"${token}"}`));
  return JSON.parse(marked, (_name, value: unknown) => {
    const found = value !== null && typeof value === "object" ? (value as Record<string, unknown>)[MARK] : undefined;
    return typeof found === "string" ? new Num(found) : value;
  }) as Json;
}

export function write(value: Json, indent = ""): string {
  if (value instanceof Num) return value.text;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const inner = `${indent}  `;
  const isList = Array.isArray(value);
  const items = isList
    ? value.map((item) => write(item, inner))
    : Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${write(item, inner)}`);
  if (items.length === 0) return isList ? "[]" : "{}";
  const [open, close] = isList ? "[]" : "{}";
  return `${open}\n${items.map((item) => inner + item).join(",\n")}\n${indent}${close}`;
}

export const isObject = (value: Json | undefined): value is { [name: string]: Json } =>
  value !== null && typeof value === "object" && !Array.isArray(value) && !(value instanceof Num);

export interface Difference {
  path: string;
  before: Json | undefined;
  after: Json | undefined;
}

/** Returns the differences between two values, each with its path. */
export function differences(before: Json | undefined, after: Json | undefined, path = "", found: Difference[] = []): Difference[] {
  if (isObject(before) && isObject(after)) {
    for (const name of new Set([...Object.keys(before), ...Object.keys(after)])) {
      differences(before[name], after[name], path ? `${path}.${name}` : name, found);
    }
  } else if (before === undefined || after === undefined || write(before) !== write(after)) {
    if (before !== after) found.push({ path, before, after });
  }
  return found;
}
