// Writes the types of the API's answers and requests from ../openapi.json into src/lib/schema.ts.
//
//   node schema.mjs [the file to write]
//
// The packages that generate such types need the compiler of TypeScript 5, and this page is checked by a later one. The schemas
// use few forms, so this program handles these forms, and refuses any other.
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const document = JSON.parse(readFileSync(join(here, "..", "openapi.json"), "utf8"));

/** The schemas of requests. Their optional members can be omitted. */
const requests = new Set(Object.values(document.paths).flatMap((path) => Object.values(path))
  .flatMap((operation) => Object.values(operation.requestBody?.content ?? {}))
  .map(({ schema }) => schema.$ref?.split("/").at(-1)));
/** The schemas whose optional members are omitted if they have no value. In other answers, such members are null. */
const sparse = new Set([...requests, "Problem"]);

/** The keys of a schema that allows any value. */
const ANNOTATIONS = new Set(["description", "title", "default", "example"]);
const SIMPLE = { string: "string", integer: "number", number: "number", boolean: "boolean", null: "null" };

const IDENTIFIER = /^[A-Za-z_$][\w$]*$/;

/** Returns a comment with the description of a schema. */
function commentOf({ description }, indent) {
  if (!description) return "";
  if (description.includes("*/")) throw new Error(`schema.mjs: a description ends the comment that holds it: ${description}`);
  return `${indent}/** ${description.replaceAll("\n", " ")} */\n`;
}

/** Whether a schema allows null. A schema without a type allows any value. */
function isNullable(schema) {
  if (schema.$ref) return isNullable(document.components.schemas[schema.$ref.split("/").at(-1)]);
  if (schema.enum) return schema.enum.includes(null);
  if (schema.oneOf) return schema.oneOf.some(isNullable);
  if (schema.allOf) return schema.allOf.every(isNullable);
  return schema.type === undefined || [schema.type].flat().includes("null");
}

function typeOf(schema, name) {
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.oneOf) return schema.oneOf.map((one) => typeOf(one, name)).join(" | ");
  if (schema.allOf) return schema.allOf.map((one) => typeOf(one, name)).join(" & ");
  if (schema.type === undefined) {
    if (Object.keys(schema).every((key) => ANNOTATIONS.has(key))) return "unknown";
    throw new Error(`schema.mjs does not handle this schema of ${name}: ${JSON.stringify(schema)}`);
  }
  const types = [schema.type].flat().map((type) => {
    if (type === "array") {
      const item = typeOf(schema.items, name);
      return /[|&]/.test(item) ? `(${item})[]` : `${item}[]`;
    }
    if (type === "object") {
      if (schema.properties) return objectOf(schema, name);
      return `Record<string, ${schema.additionalProperties ? typeOf(schema.additionalProperties, name) : "unknown"}>`;
    }
    if (!SIMPLE[type]) throw new Error(`schema.mjs does not handle this schema of ${name}: ${JSON.stringify(schema)}`);
    return SIMPLE[type];
  });
  return types.join(" | ");
}

function objectOf(schema, name) {
  const required = new Set(schema.required ?? []);
  const lines = Object.entries(schema.properties).map(([member, value]) => {
    const isOmitted = !required.has(member) && sparse.has(name);
    if (!required.has(member) && !isOmitted && !isNullable(value)) {
      throw new Error(`schema.mjs: the member ${member} of ${name} is optional, but cannot be null`);
    }
    const key = IDENTIFIER.test(member) ? member : JSON.stringify(member);
    return `${commentOf(value, "  ")}  ${key}${isOmitted ? "?" : ""}: ${typeOf(value, name)};`;
  });
  return `{\n${lines.join("\n")}\n}`;
}

const parts = Object.entries(document.components.schemas).map(([name, schema]) => {
  if (!IDENTIFIER.test(name)) throw new Error(`schema.mjs: the name of the schema '${name}' is not an identifier`);
  return `${commentOf(schema, "")}export type ${name} = ${typeOf(schema, name)};\n`;
});
const text = `// Generated from openapi.json by schema.mjs; do not edit.\n\n${parts.join("\n")}`;
writeFileSync(process.argv[2] ?? join(here, "src", "lib", "schema.ts"), text);
