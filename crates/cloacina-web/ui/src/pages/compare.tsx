// The comparison of two executions: inputs, the first difference, durations, errors and changed code.
import { get, getAll, part } from "../lib/api.ts";
import { type Json, differences, write } from "../lib/json.ts";
import { query, setQuery, url } from "../lib/route.ts";
import { duration } from "../lib/time.ts";
import type { DefinedTask, Execution, Page, Summary, Task, WorkflowDetail } from "../lib/types.ts";
import { useLoad } from "../lib/use.ts";
import { Empty, ErrorBox, Loading, Time, shortId } from "../parts/basics.tsx";
import { loadValue } from "../parts/json.tsx";
import { State } from "../parts/state.tsx";

/** Maximum number of tasks that are compared. */
const MAX_TASKS = 2000;

interface Side {
  execution: Execution;
  tasks: Map<string, Task>;
  code: Map<string, DefinedTask>;
  input: Json | undefined;
}

async function load(id: string, signal: AbortSignal): Promise<Side> {
  const execution = await get<Execution>(`/executions/${part(id)}`, signal);
  const version = `/workflows/${part(execution.workflow)}/versions/${part(execution.version)}`;
  const [tasks, code, input] = await Promise.all([
    getAll<Task>(`/executions/${execution.id}/tasks?limit=200`, MAX_TASKS, signal),
    get<WorkflowDetail>(version, signal).then((found) => found.defined_tasks, () => []),
    loadValue(`/executions/${execution.id}/input`, signal).then((found) => found.value, () => undefined),
  ]);
  return {
    execution,
    tasks: new Map(tasks.map((task) => [task.id, task])),
    code: new Map(code.map((task) => [task.id, task])),
    input,
  };
}

async function lastSuccess(other: string, signal: AbortSignal): Promise<string | null> {
  const { workflow } = await get<Execution>(`/executions/${part(other)}`, signal);
  const page = await get<Page<Summary>>(`/executions?workflow=${part(workflow)}&status=Completed&limit=2`, signal);
  return page.items.find((item) => item.id !== other)?.id ?? null;
}

const text = (value: Json | undefined) => (value === undefined ? "–" : write(value));

function Head({ side, name }: { side: Side; name: string }) {
  const { execution } = side;
  return (
    <div class="box">
      <p><span class="quiet">{name}</span> <a class="mono" href={url(`executions/${execution.id}`)}>{shortId(execution.id)}</a> <State of={execution.status} /></p>
      <p class="quiet">{execution.workflow} · <Time at={execution.created_at} />{execution.duration_us !== null && ` · ${duration(execution.duration_us)}`}</p>
      {execution.error && <p class="error-text"><strong>{execution.error.type}</strong> {execution.error.message}</p>}
    </div>
  );
}

export function ComparePage() {
  const a = query.value.get("a");
  const b = query.value.get("b");
  const key = a && b ? `${a} ${b}` : null;
  const { data, error } = useLoad(key, async (signal) => {
    const left = a === "last-success" ? await lastSuccess(b ?? "", signal) : a;
    const right = b === "last-success" ? await lastSuccess(a ?? "", signal) : b;
    if (!left || !right) return null;
    return Promise.all([load(left, signal), load(right, signal)]);
  });
  if (!key) return <><h1>Compare</h1><Empty title="Choose two executions"><p>Select two rows of the list, or open an execution and choose “Compare with the last success” in its menu.</p><p><a class="button" href={url("executions")}>Show the list</a></p></Empty></>;
  if (error) return <><h1>Compare</h1><ErrorBox error={error} /></>;
  if (data === undefined) return <><h1>Compare</h1><Loading /></>;
  if (data === null) return <><h1>Compare</h1><Empty title="No completed execution to compare with"><p>No other execution of this workflow has completed.</p></Empty></>;
  const [left, right] = data;
  const names = [...new Set([...left.tasks.keys(), ...right.tasks.keys()])];
  const rows = names.map((name) => {
    const [one, two] = [left.tasks.get(name), right.tasks.get(name)];
    const [codeA, codeB] = [left.code.get(name)?.fingerprint, right.code.get(name)?.fingerprint];
    const change = one === undefined ? "only in B" : two === undefined ? "only in A" : codeA !== undefined && codeB !== undefined && codeA !== codeB ? "code changed" : "";
    const start = Math.min(...[one, two].map((task) => Date.parse(task?.started_at ?? "") || Infinity));
    return { name, one, two, change, start, isDifferent: one?.status !== two?.status };
  });
  const diverged = rows.filter((row) => row.isDifferent).sort((x, y) => x.start - y.start)[0];
  const inputs = differences(left.input ?? undefined, right.input ?? undefined);
  const shown = [...rows].sort((x, y) => Number(y.isDifferent) - Number(x.isDifferent) || Number(y.change !== "") - Number(x.change !== ""));
  return (
    <>
      <div class="title-line">
        <h1>Compare</h1>
        <div class="actions"><button type="button" onClick={() => setQuery({ a: b, b: a })}>Swap A and B</button></div>
      </div>
      <div class="two"><Head side={left} name="A" /><Head side={right} name="B" /></div>
      <section aria-labelledby="first"><h2 id="first">First difference</h2>
        {diverged
          ? <p>Task <a href={url(`executions/${right.execution.id}`, {}, `task=${part(diverged.name)}`)}><code>{diverged.name}</code></a> is {diverged.one ? <State of={diverged.one.status} /> : "missing"} in A and {diverged.two ? <State of={diverged.two.status} /> : "missing"} in B{diverged.change === "code changed" && ", and its code changed"}.</p>
          : <p class="quiet">Each task has the same state in A and B.</p>}
      </section>
      <section aria-labelledby="inputs"><h2 id="inputs">Input</h2>
        {inputs.length === 0 ? <p class="quiet">Both executions have the same input.</p> : (
          <div class="scroll" tabIndex={0}><table class="list"><thead><tr><th>Path</th><th>A</th><th>B</th></tr></thead>
            <tbody>{inputs.slice(0, 200).map(({ path, before, after }) => <tr key={path}><td><code>{path || "(all)"}</code></td><td><pre>{text(before)}</pre></td><td><pre>{text(after)}</pre></td></tr>)}</tbody></table></div>
        )}
      </section>
      <section aria-labelledby="tasks"><h2 id="tasks">Tasks</h2>
        <div class="scroll" tabIndex={0}><table class="list">
          <thead><tr><th>Task</th><th>A</th><th>B</th><th class="number">Duration A</th><th class="number">Duration B</th><th class="number">Difference</th><th>Code</th></tr></thead>
          <tbody>
            {shown.slice(0, 500).map(({ name, one, two, change, isDifferent }) => {
              const times = [one?.duration_us ?? null, two?.duration_us ?? null] as const;
              const delta = times[0] !== null && times[1] !== null ? times[1] - times[0] : null;
              return (
                <tr key={name} class={isDifferent ? "at" : ""}>
                  <td><a href={url(`executions/${right.execution.id}`, {}, `task=${part(name)}`)}>{name}</a></td>
                  <td>{one ? <State of={one.status} /> : "–"}</td><td>{two ? <State of={two.status} /> : "–"}</td>
                  <td class="number">{times[0] === null ? "–" : duration(times[0])}</td><td class="number">{times[1] === null ? "–" : duration(times[1])}</td>
                  <td class="number">{delta === null ? "" : delta === 0 ? "same" : `${delta < 0 ? "−" : "+"}${duration(Math.abs(delta))}`}</td>
                  <td>{change}</td>
                </tr>
              );
            })}
          </tbody>
        </table></div>
      </section>
    </>
  );
}
