// Shows JSON values as a tree that can be folded. Numbers keep their digits.
import { useState } from "preact/hooks";
import { address, getText } from "../lib/api.ts";
import { bytes } from "../lib/time.ts";
import { useLoad } from "../lib/use.ts";
import { type Json, Num, isObject, parse, write } from "../lib/json.ts";
import { Copy, ErrorBox, Loading } from "./basics.tsx";

/** Number of items of a list or an object that are shown at first, and that each click on the button adds. */
const MAX_ITEMS = 200;
/** The depth from which lists and objects are folded at first. */
const FOLDED_DEPTH = 2;

function Leaf({ value }: { value: Json }) {
  if (value instanceof Num) return <span class="json-number">{value.text}</span>;
  if (typeof value === "string") {
    return /^https?:\/\/\S+$/.test(value)
      ? <a href={value} target="_blank" rel="noopener noreferrer" class="json-text">"{value}"</a>
      : <span class="json-text">{JSON.stringify(value)}</span>;
  }
  return <span class="json-word">{String(value)}</span>;
}

function Node({ name, value, depth }: { name: string | null; value: Json; depth: number }) {
  const isBranch = Array.isArray(value) || isObject(value);
  const entries: [string, Json][] = !isBranch ? [] : Array.isArray(value) ? value.map((item, index) => [String(index), item]) : Object.entries(value);
  const [isOpen, setOpen] = useState(depth < FOLDED_DEPTH);
  const [most, setMost] = useState(MAX_ITEMS);
  const title = name === null ? null : <span class="json-name">{name}: </span>;
  if (!isBranch || entries.length === 0) {
    return <li>{title}{isBranch ? <span class="quiet">{Array.isArray(value) ? "[]" : "{}"}</span> : <Leaf value={value} />}</li>;
  }
  const size = Array.isArray(value) ? `[${entries.length}]` : `{${entries.length}}`;
  return (
    <li>
      <button type="button" class="plain json-fold" aria-expanded={isOpen} onClick={() => setOpen(!isOpen)}>
        <span aria-hidden="true">{isOpen ? "▾" : "▸"}</span> {title}<span class="quiet">{size}</span>
      </button>
      {isOpen && (
        <ul>
          {entries.slice(0, most).map(([key, item]) => <Node key={key} name={key} value={item} depth={depth + 1} />)}
          {entries.length > most && (
            <li><button type="button" class="plain" onClick={() => setMost(most + MAX_ITEMS)}>{entries.length - most} more…</button></li>
          )}
        </ul>
      )}
    </li>
  );
}

export function Tree({ value }: { value: Json }) {
  return (
    <div class="json">
      <div class="json-tools"><Copy text={write(value)} what="the value" /></div>
      <ul><Node name={null} value={value} depth={0} /></ul>
    </div>
  );
}

export interface Value {
  value: Json | undefined;
  size: number;
  isCut: boolean;
}

export async function loadValue(path: string, signal?: AbortSignal): Promise<Value> {
  const answer = parse(await getText(path, signal));
  const fields = isObject(answer) ? answer : {};
  const size = fields.size_bytes instanceof Num ? Number(fields.size_bytes.text) : 0;
  return { value: fields.value, size, isCut: fields.is_cut === true };
}

/** Loads and shows the JSON value that a route returns: an input, a result or a context. */
export function Payload({ path, empty = "Nothing." }: { path: string; empty?: string }) {
  const { data, error, isLoading } = useLoad(path, (signal) => loadValue(path, signal));
  if (error) return <ErrorBox error={error} />;
  if (!data || isLoading) return <Loading />;
  if (data.isCut) {
    return <p>The value has a size of {bytes(data.size)}, which is too large to show. <a href={address(`${path}?raw=true`)} download="value.json">Download it</a></p>;
  }
  if (data.value === null || data.value === undefined) return <p class="quiet">{empty}</p>;
  return <Tree value={data.value} />;
}
