// Forms from JSON schemas: a field for each simple value, and JSON text for all other values.
import { useState } from "preact/hooks";
import { type Json, Num, isObject, parse, write } from "../lib/json.ts";

const NUMBER = /^-?\d+(\.\d+)?([eE][+-]?\d+)?$/;
/** Maximum number of fields of a form. An object with more members is edited as JSON text. */
const MAX_FIELDS = 40;

const plain = (value: unknown): Json | undefined => (value === undefined ? undefined : parse(JSON.stringify(value)));

export interface Field {
  name: string;
  kind: "text" | "number" | "flag" | "choice" | "json";
  isWhole: boolean;
  isRequired: boolean;
  title: string;
  about: string;
  choices: Json[];
  preset: Json | undefined;
}

type Schema = Record<string, unknown>;
const record = (value: unknown): Schema => (value !== null && typeof value === "object" && !Array.isArray(value) ? (value as Schema) : {});

/** Resolves the references of a schema, and removes the alternative `null`. */
function resolve(schema: unknown, root: Schema, depth = 0): Schema {
  const found = record(schema);
  const { $ref } = found;
  if (typeof $ref === "string" && $ref.startsWith("#/") && depth < 16) {
    let target: unknown = root;
    for (const part of $ref.slice(2).split("/")) target = record(target)[part.replaceAll("~1", "/").replaceAll("~0", "~")];
    return { ...resolve(target, root, depth + 1), ...Object.fromEntries(Object.entries(found).filter(([name]) => name !== "$ref")) };
  }
  const options = found.anyOf ?? found.oneOf;
  if (Array.isArray(options)) {
    const others = options.map((option) => resolve(option, root, depth + 1)).filter((option) => option.type !== "null");
    if (others.length === 1) return { ...found, ...others[0] };
  }
  return found;
}

/** Returns the fields that an object's schema describes; `null` if the schema describes no fields, or more than `MAX_FIELDS`. */
export function fieldsOf(schema: unknown): Field[] | null {
  const root = record(schema);
  const object = resolve(root, root);
  const properties = Object.entries(record(object.properties));
  if (properties.length === 0 || properties.length > MAX_FIELDS) return null;
  const required = Array.isArray(object.required) ? object.required : [];
  return properties.map(([name, property]) => {
    const found = resolve(property, root);
    const type = Array.isArray(found.type) ? found.type.find((one) => one !== "null") : found.type;
    const choices = Array.isArray(found.enum) ? found.enum.map((choice) => plain(choice) ?? null) : [];
    const isNumber = type === "number" || type === "integer";
    return {
      name,
      kind: choices.length > 0 ? "choice" : type === "string" ? "text" : isNumber ? "number" : type === "boolean" ? "flag" : "json",
      isWhole: type === "integer",
      isRequired: required.includes(name),
      title: typeof found.title === "string" ? found.title : name,
      about: typeof found.description === "string" ? found.description : "",
      choices,
      preset: plain(found.default),
    };
  });
}

/**
 * Returns the initial value of a form: the defaults of its fields. Without a default, a required flag is `false`, and a required
 * choice is the first choice.
 */
export function startValue(fields: readonly Field[]): { [name: string]: Json } {
  const value: { [name: string]: Json } = {};
  for (const { name, kind, isRequired, preset, choices } of fields) {
    if (preset !== undefined) value[name] = preset;
    else if (!isRequired) continue;
    else if (kind === "flag") value[name] = false;
    else if (kind === "choice") value[name] = choices[0] ?? null;
  }
  return value;
}

/** Returns the names of the required fields that a value lacks. */
export function missing(fields: readonly Field[], value: Json | undefined): string[] {
  const given = isObject(value) ? value : {};
  return fields.filter(({ name, isRequired }) => isRequired && given[name] === undefined).map(({ name }) => name);
}

function JsonField({ id, value, set, about }: { id: string; value: Json | undefined; set: (value: Json | undefined) => void; about: string | undefined }) {
  const [text, setText] = useState(value === undefined ? "" : write(value));
  const [wrong, setWrong] = useState(false);
  return (
    <textarea id={id} class="mono" rows={3} spellcheck={false} value={text} aria-invalid={wrong} aria-describedby={about} placeholder="JSON" onInput={(event) => {
      const { value: typed } = event.currentTarget;
      setText(typed);
      try {
        set(typed.trim() ? parse(typed) : undefined);
        setWrong(false);
      } catch {
        setWrong(true);
      }
    }} />
  );
}

export function SchemaFields({ fields, value, change, prefix }: {
  fields: readonly Field[];
  value: { [name: string]: Json };
  change: (value: { [name: string]: Json }) => void;
  prefix: string;
}) {
  return (
    <>
      {fields.map((field) => {
        const { name, kind, title, about, isRequired, choices } = field;
        const id = `${prefix}-${name}`;
        const known = value[name];
        const set = (next: Json | undefined) => {
          const { [name]: _, ...rest } = value;
          change(next === undefined ? rest : { ...value, [name]: next });
        };
        const hint = about ? `${id}-about` : undefined;
        const caption = <span>{title}{isRequired ? <span class="quiet"> required</span> : null}</span>;
        const note = about ? <span id={hint} class="quiet">{about}</span> : null;
        if (kind === "flag") {
          return <label key={name} class="box-label"><input type="checkbox" checked={known === true} aria-describedby={hint} onChange={(event) => set(event.currentTarget.checked)} /> {caption} {note}</label>;
        }
        return (
          <label key={name} for={id}>{caption} {note}
            {kind === "choice" && (
              <select id={id} aria-describedby={hint} value={known === undefined ? "" : write(known)} onChange={(event) => set(choices.find((choice) => write(choice) === event.currentTarget.value))}>
                {known === undefined && <option value="">–</option>}
                {choices.map((choice) => <option key={write(choice)} value={write(choice)}>{typeof choice === "string" ? choice : write(choice)}</option>)}
              </select>
            )}
            {kind === "json" && <JsonField id={id} value={known} set={set} about={hint} />}
            {(kind === "text" || kind === "number") && (
              <input id={id} inputMode={kind === "number" ? (field.isWhole ? "numeric" : "decimal") : "text"} required={isRequired} aria-describedby={hint}
                value={known instanceof Num ? known.text : typeof known === "string" ? known : ""}
                onInput={(event) => {
                  const { value: text } = event.currentTarget;
                  if (kind === "text") set(text === "" && !isRequired ? undefined : text);
                  else set(text.trim() === "" ? undefined : NUMBER.test(text.trim()) ? new Num(text.trim()) : text);
                }} />
            )}
          </label>
        );
      })}
    </>
  );
}
