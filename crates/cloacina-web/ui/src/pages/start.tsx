// The form that starts an execution, with new input or with the input of an earlier execution.
import { useEffect, useState } from "preact/hooks";
import { ApiError, part, send } from "../lib/api.ts";
import { type Json, Num, differences, isObject, parse, write } from "../lib/json.ts";
import { go, query, url } from "../lib/route.ts";
import type { SubmittedView } from "../lib/schema.ts";
import type { Execution, WorkflowDetail } from "../lib/types.ts";
import { useGet, useLoad } from "../lib/use.ts";
import { Choice, ErrorBox, Loading, Missing, say, shortId } from "../parts/basics.tsx";
import { loadValue } from "../parts/json.tsx";
import { SchemaFields, fieldsOf, missing, startValue } from "../parts/schema.tsx";

const HIDDEN = "•••";

function hasHidden(value: Json): boolean {
  if (value === HIDDEN) return true;
  if (Array.isArray(value)) return value.some(hasHidden);
  return isObject(value) && Object.values(value).some(hasHidden);
}

/** Replaces each hidden value outside lists with `$keep` and the value's path. The server inserts the earlier value. */
function keepHidden(value: Json, path: string): Json {
  if (value === HIDDEN && path) return { $keep: path };
  if (!isObject(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, keepHidden(item, path ? `${path}.${name}` : name)]));
}

/** Form fields for the texts, numbers and booleans of an object. Other values are edited as JSON text. */
function Fields({ value, change }: { value: { [name: string]: Json }; change: (value: Json) => void }) {
  return (
    <>
      {Object.entries(value).map(([name, field]) => {
        const set = (next: Json) => change({ ...value, [name]: next });
        const id = `field-${name}`;
        if (typeof field === "boolean") {
          return <label key={name} class="box-label"><input type="checkbox" checked={field} onChange={(event) => set(event.currentTarget.checked)} /> <span>{name}</span></label>;
        }
        const isNumber = field instanceof Num;
        if (!isNumber && typeof field !== "string") return null;
        return (
          <label key={name} for={id}><span>{name}</span>
            <input id={id} inputMode={isNumber ? "decimal" : "text"} value={isNumber ? field.text : field}
              onInput={(event) => {
                const { value: text } = event.currentTarget;
                set(isNumber && /^-?\d+(\.\d+)?([eE][+-]?\d+)?$/.test(text) ? new Num(text) : text);
              }} />
          </label>
        );
      })}
    </>
  );
}

export function StartPage({ name }: { name: string }) {
  const from = query.value.get("from");
  const workflow = useGet<WorkflowDetail>(`/workflows/${part(name)}`, false);
  const earlier = useLoad(from ? `input ${from}` : null, (signal) => loadValue(`/executions/${part(from ?? "")}/input?full=true`, signal), false);
  const [text, setText] = useState<string | null>(null);
  const [options, setOptions] = useState({ key: "", priority: "", delay: "" });
  const [error, setError] = useState<ApiError | null>(null);
  const [isBusy, setBusy] = useState(false);
  const [note, setNote] = useState("");
  const [version, setVersion] = useState<"original" | "latest">("latest");
  // The form uses the input schema of the version that will run.
  const isOriginal = from !== null && version === "original";
  const execution = useGet<Execution>(from ? `/executions/${part(from)}` : null, false);
  const originalWorkflow = useGet<WorkflowDetail>(isOriginal && execution.data ? `/workflows/${part(name)}/versions/${part(execution.data.version)}` : null, false);
  const original = earlier.data?.value ?? undefined;
  useEffect(() => {
    if (text !== null || !(from ? earlier.data : workflow.data)) return;
    setText(write(original ?? startValue(fieldsOf(workflow.data?.input_schema) ?? [])));
  }, [earlier.data, workflow.data]);

  if (workflow.error) return <Missing kind="workflow" list="workflows" error={workflow.error} />;
  if (earlier.error) return <Missing kind="execution" list="executions" error={earlier.error} />;
  if (!workflow.data || text === null) return <Loading />;

  let input: Json | undefined;
  let wrong = "";
  try {
    input = parse(text || "{}");
    if (!isObject(input)) wrong = "The input must be a JSON object.";
  } catch (problem) {
    wrong = `This is not JSON: ${(problem as Error).message}`;
  }
  if (!from && !wrong && input !== undefined && hasHidden(input)) wrong = `A value is hidden (${HIDDEN}). Type the value again, because the page does not know it.`;
  const changed = original !== undefined && input !== undefined ? differences(original, input) : [];

  async function start(isDry: boolean): Promise<void> {
    setBusy(true);
    setError(null);
    if (from) {
      const fields = [`"version": ${JSON.stringify(version)}`];
      if (changed.length > 0 && input !== undefined) fields.push(`"input": ${write(keepHidden(input, ""))}`);
      if (note.trim()) fields.push(`"note": ${JSON.stringify(note.trim())}`);
      await submit(`/executions/${part(from)}/rerun`, `{${fields.join(", ")}}`, false);
      return;
    }
    const rest: string[] = [`"workflow": ${JSON.stringify(name)}`, `"input": ${text || "{}"}`];
    if (options.key.trim()) rest.push(`"key": ${JSON.stringify(options.key.trim())}`);
    if (options.priority.trim()) rest.push(`"priority": ${Number(options.priority)}`);
    if (options.delay.trim()) rest.push(`"delay": ${Number(options.delay)}`);
    if (isDry) rest.push('"dry_run": true');
    await submit("/executions", `{${rest.join(", ")}}`, isDry);
  }

  /** Sends a request. The body is text, so that numbers keep their digits. */
  async function submit(path: string, body: string, isDry: boolean): Promise<void> {
    try {
      const answer = await send<SubmittedView>("POST", path, body);
      if (isDry) say("The request is valid. Nothing was started.");
      else if (answer.id) {
        say(answer.created ? "Started." : "An execution with this key already exists.");
        go(url(`executions/${answer.id}`));
      }
    } catch (problem) {
      setError(problem instanceof ApiError ? problem : new ApiError({ code: "page", title: "error", status: 0, detail: String(problem) }));
    } finally {
      setBusy(false);
    }
  }

  const schema = isOriginal ? originalWorkflow.data?.input_schema : workflow.data.input_schema;
  const fields = fieldsOf(schema);
  const lacks = fields && !wrong ? missing(fields, input) : [];
  const isFlat = !fields && isObject(input) && Object.keys(input).length > 0 && Object.keys(input).length <= 12;
  return (
    <>
      <h1>{from ? "Run again: " : "Start "}<a href={url(`workflows/${part(name)}`)}>{name}</a></h1>
      {from && <p>Starts a new execution with the input of <a class="mono" href={url(`executions/${from}`)}>{shortId(from)}</a>. The earlier execution does not change.</p>}
      <form class="form" onSubmit={(event) => { event.preventDefault(); void start(false); }}>
        {fields && !wrong && <fieldset><legend>Input</legend><SchemaFields fields={fields} value={isObject(input) ? input : {}} change={(value) => setText(write(value))} prefix="input" /></fieldset>}
        {isFlat && <fieldset><legend>Fields</legend><Fields value={input as { [name: string]: Json }} change={(value) => setText(write(value))} /></fieldset>}
        <label for="input"><span>Input, as a JSON object</span>
          <textarea id="input" class="mono" rows={Math.min(24, Math.max(6, text.split("\n").length + 1))} spellcheck={false} value={text}
            aria-invalid={wrong !== ""} aria-describedby="input-error" onInput={(event) => setText(event.currentTarget.value)} />
        </label>
        <p id="input-error" class="error-text" role="status">{wrong || (lacks.length > 0 ? `Missing: ${lacks.join(", ")}` : "")}</p>
        {from && !wrong && <p class="quiet">{changed.length === 0 ? "The input is unchanged." : `Changed: ${changed.map((one) => one.path).join(", ")}`}</p>}
        {from && original !== undefined && hasHidden(original) && <p class="quiet">A hidden value ({HIDDEN}) that you do not change keeps its value.</p>}
        {from && (
          <>
            <Choice label="Version of the workflow" value={version} choose={setVersion} options={[["latest", "The newest version"], ["original", "The original version"]]} />
            <label for="note"><span>Note, for the history</span><input id="note" value={note} onInput={(event) => setNote(event.currentTarget.value)} /></label>
          </>
        )}
        {!from && <details>
          <summary>Key, priority, delay</summary>
          <label for="key"><span>Key: a second execution with the same key is not started</span><input id="key" value={options.key} onInput={(event) => setOptions({ ...options, key: event.currentTarget.value })} /></label>
          <label for="priority"><span>Priority: executions with a higher number start first</span><input id="priority" inputMode="numeric" value={options.priority} onInput={(event) => setOptions({ ...options, priority: event.currentTarget.value })} /></label>
          <label for="delay"><span>Delay in seconds</span><input id="delay" inputMode="decimal" value={options.delay} onInput={(event) => setOptions({ ...options, delay: event.currentTarget.value })} /></label>
        </details>}
        {error && <ErrorBox error={error} />}
        <p class="actions">
          <button type="submit" class="primary" disabled={wrong !== "" || lacks.length > 0 || isBusy}>Start</button>
          {!from && <button type="button" disabled={wrong !== "" || isBusy} onClick={() => void start(true)}>Check only</button>}
        </p>
      </form>
    </>
  );
}
