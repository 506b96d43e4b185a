// The recorded steps of an execution's tasks.
import { useState } from "preact/hooks";
import { getText, part } from "../lib/api.ts";
import { type Json, Num, isObject, parse } from "../lib/json.ts";
import { bytes, duration, grouped } from "../lib/time.ts";
import { taskLink } from "../lib/route.ts";
import type { Execution } from "../lib/types.ts";
import { useLoad } from "../lib/use.ts";
import { Empty, ErrorBox, Loading, Time } from "../parts/basics.tsx";
import { Tree } from "../parts/json.tsx";
import { loadEvents } from "./history.tsx";

/** Maximum number of steps that are loaded for a task. */
const MAX_STEPS = 1000;

interface Step {
  key: string;
  kind: string;
  attempt: string;
  started: string;
  length: number;
  value: Json | undefined;
  size: number;
}

const text = (value: Json | undefined) => (value instanceof Num ? value.text : typeof value === "string" ? value : "");

/** Loads the steps of a task. The numbers in their values keep their digits. */
async function loadSteps(path: string, signal: AbortSignal): Promise<Step[]> {
  const steps: Step[] = [];
  let next: Json | undefined = null;
  do {
    const more: string = typeof next === "string" ? `&cursor=${part(next)}` : "";
    const page: Json = parse(await getText(`${path}?limit=200${more}`, signal));
    const fields: { [name: string]: Json } = isObject(page) ? page : {};
    for (const item of Array.isArray(fields.items) ? fields.items : []) {
      const step: { [name: string]: Json } = isObject(item) ? item : {};
      // A null value with a size of 4 bytes is the result `null`. Otherwise null means that the value was not sent.
      const isNull = step.value === null && text(step.value_bytes) === "4";
      steps.push({
        key: text(step.key), kind: text(step.kind), attempt: text(step.attempt), started: text(step.started_at),
        length: Number(text(step.duration_us)), value: isNull ? null : step.value ?? undefined, size: Number(text(step.value_bytes)),
      });
    }
    next = fields.next;
  } while (typeof next === "string" && steps.length < MAX_STEPS);
  return steps;
}

function StepItem({ step }: { step: Step }) {
  const [isOpen, setOpen] = useState(false);
  return (
    <li class="attempt">
      <p><code>{step.key}</code> <span class="quiet">{step.kind} · attempt {step.attempt} · {duration(step.length)}</span></p>
      <p class="quiet"><Time at={step.started} isExact />{" "}
        {step.value === undefined ? (step.size > 0 ? `${bytes(step.size)}, not shown` : "result not shown") : (
          <button type="button" class="plain" aria-expanded={isOpen} onClick={() => setOpen(!isOpen)}>{isOpen ? "Hide the result" : `Show the result (${bytes(step.size)})`}</button>
        )}
      </p>
      {isOpen && step.value !== undefined && <Tree value={step.value} />}
    </li>
  );
}

export function TaskSteps({ execution, task }: { execution: string; task: string }) {
  const path = `/executions/${part(execution)}/tasks/${part(task)}/steps`;
  const { data, error } = useLoad(`steps ${path}`, (signal) => loadSteps(path, signal));
  if (error) return <ErrorBox error={error} />;
  if (!data) return <Loading />;
  if (data.length === 0) return <p class="quiet">It has recorded no steps. A step is a call whose result later attempts reuse: <code>task.step("key", call)</code></p>;
  return (
    <>
      <ol class="attempts" aria-label="Steps">{data.map((step) => <StepItem key={step.key} step={step} />)}</ol>
      {data.length >= MAX_STEPS && <p class="quiet">Only the first {grouped(MAX_STEPS)} steps are shown.</p>}
    </>
  );
}

/** The recorded steps of all tasks, grouped by task. */
export function StepsTab({ execution }: { execution: Execution }) {
  const { data, error } = useLoad(`step tasks ${execution.id}`, async (signal) => {
    const events = await loadEvents(execution.id, signal);
    return [...new Set(events.filter((event) => event.type === "step_recorded").map((event) => event.task ?? ""))];
  });
  if (error) return <ErrorBox error={error} />;
  if (!data) return <Loading />;
  if (data.length === 0) {
    return (
      <Empty title="No steps">
        <p>A task records the results of its calls, so that a later attempt does not repeat them:</p>
        <pre class="code" tabIndex={0}>{'def agent(context, task: cloaca.TaskHandle):\n    plan = task.step("plan", make_plan, context["question"])'}</pre>
      </Empty>
    );
  }
  return <>{data.map((task) => <section key={task} aria-label={`Steps of ${task}`}><h2><a href={taskLink(task)}>{task}</a></h2><TaskSteps execution={execution.id} task={task} /></section>)}</>;
}
