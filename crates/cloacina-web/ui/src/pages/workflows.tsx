// The list of workflows, and the page of a workflow.
import { useState } from "preact/hooks";
import { part } from "../lib/api.ts";
import { query, setQuery, url } from "../lib/route.ts";
import { duration } from "../lib/time.ts";
import type { Graph, Page, Summary, Workflow, WorkflowDetail } from "../lib/types.ts";
import { useGet, useLoad } from "../lib/use.ts";
import { Command, Empty, ErrorBox, Loading, Missing, Time, shortId } from "../parts/basics.tsx";
import { may } from "../parts/control.tsx";
import { GraphCanvas } from "../parts/graph.tsx";
import { State, family } from "../parts/state.tsx";
import { FIRST_WORKFLOW, elapsed } from "./executions.tsx";
import { loadSchedules } from "./schedules.tsx";

/** The last executions as bars. The height of a bar shows the duration, and its colour shows the state. */
function LastRuns({ runs }: { runs: readonly Summary[] }) {
  const longest = Math.max(1, ...runs.map((run) => run.duration_us ?? 0));
  const text = runs.length === 0 ? "No executions" : `The last ${runs.length} executions: ${[...Map.groupBy(runs, (run) => run.status)].map(([state, list]) => `${list.length} ${state}`).join(", ")}`;
  return (
    <svg class="runs" viewBox="0 0 160 24" role="img" aria-label={text}>
      {[...runs].reverse().map((run, index) => {
        const height = 4 + ((run.duration_us ?? longest) / longest) * 20;
        return <rect key={run.id} class={`solid ${family(run.status)} ${run.status === "Failed" ? "wide-bar" : ""}`} x={index * 8} width={run.status === "Failed" ? 7 : 5} y={24 - height} height={height}><title>{run.status} {shortId(run.id)}</title></rect>;
      })}
    </svg>
  );
}

function WorkflowRow({ workflow }: { workflow: Workflow }) {
  const path = `workflows/${part(workflow.name)}`;
  const { data } = useGet<Page<Summary>>(`/executions?workflow=${part(workflow.name)}&limit=20`);
  const [last] = data?.items ?? [];
  return (
    <tr>
      <td><a href={url(path)}>{workflow.name}</a></td>
      <td class="grow quiet">{workflow.description}</td>
      <td class="number">{workflow.tasks}</td>
      <td>{data && <LastRuns runs={data.items} />}</td>
      <td class="nowrap">{last ? <><State of={last.status} /> <span class="quiet"><Time at={last.created_at} isRelative /></span></> : <span class="quiet">never ran</span>}</td>
      <td class="nowrap">{may("start") && <a class="button small" href={url(`${path}/start`)}>Start<span class="hidden"> {workflow.name}</span></a>}</td>
    </tr>
  );
}

export function WorkflowsPage() {
  const { data, error, reload } = useGet<Page<Workflow>>("/workflows");
  const [text, setText] = useState("");
  const found = data?.items.filter(({ name, description }) => `${name} ${description}`.toLowerCase().includes(text.trim().toLowerCase())) ?? [];
  return (
    <>
      <h1>Workflows</h1>
      {error && <ErrorBox error={error} retry={reload} />}
      {!data && !error && <Loading />}
      {data?.items.length === 0 && (
        <Empty title="No workflow is known to this database">
          <p>A runner stores the definitions of its workflows when it starts. For example, with <code>etl.py</code>:</p>
          <pre class="code" tabIndex={0}>{FIRST_WORKFLOW}</pre>
          <Command text="cloaca worker etl.py" />
        </Empty>
      )}
      {data && data.items.length > 0 && (
        <>
          <form class="filters" role="search" aria-label="Find workflows" onSubmit={(event) => event.preventDefault()}>
            <label><span>Name</span><input data-filter type="search" value={text} onInput={(event) => setText(event.currentTarget.value)} /></label>
          </form>
          <div class="scroll"><table class="list blocks workflow-list">
            <thead><tr><th>Workflow</th><th class="grow">Description</th><th class="number">Tasks</th><th>Last executions</th><th>Newest</th><th><span class="hidden">Actions</span></th></tr></thead>
            <tbody>{found.slice(0, 100).map((workflow) => <WorkflowRow key={workflow.name} workflow={workflow} />)}</tbody>
          </table></div>
          {found.length > 100 && <p class="quiet">{found.length - 100} more workflows match. Type more of the name to see them.</p>}
        </>
      )}
    </>
  );
}

function Durations({ runs }: { runs: readonly Summary[] }) {
  const times = runs.filter((run) => run.status === "Completed" && run.duration_us !== null).map((run) => run.duration_us ?? 0).sort((a, b) => a - b);
  if (times.length === 0) return null;
  const at = (share: number) => times[Math.min(times.length - 1, Math.floor(share * times.length))] ?? 0;
  return <p class="quiet">Of the last {times.length} completed: median {duration(at(0.5))}, 95 % within {duration(at(0.95))}, longest {duration(times.at(-1) ?? 0)}.</p>;
}

export function WorkflowPage({ name }: { name: string }) {
  const version = query.value.get("version");
  const path = `/workflows/${part(name)}`;
  const { data, error } = useGet<WorkflowDetail>(version ? `${path}/versions/${part(version)}` : path);
  const graph = useGet<Graph>(data ? `${path}/versions/${part(data.version)}/graph` : null, false);
  const runs = useGet<Page<Summary>>(`/executions?workflow=${part(name)}&limit=50`);
  const schedules = useLoad("schedules", loadSchedules);
  const [selected, setSelected] = useState(-1);
  if (error) return <Missing kind="workflow" list="workflows" error={error} />;
  if (!data) return <Loading />;
  const own = schedules.data?.filter((schedule) => schedule.workflow === name) ?? [];
  const task = data.defined_tasks.find((task) => task.id === graph.data?.tasks[selected]);
  return (
    <>
      <div class="title-line">
        <h1>{name}</h1>
        <div class="actions">
          {may("start") && <a class="button primary" href={url(`workflows/${part(name)}/start`)}>Start…</a>}
          <a class="button" href={url("executions", { workflow: name })}>Executions</a>
        </div>
      </div>
      {data.description && <p>{data.description}</p>}
      <p class="filters">
        <label><span>Version</span>
          <select value={data.version} onChange={(event) => setQuery({ version: event.currentTarget.value })}>
            {data.all_versions.toReversed().map((one, index) => <option key={one} value={one}>{one.slice(0, 16)}{index === 0 ? " (newest)" : ""}</option>)}
          </select>
        </label>
        {Object.entries(data.tags).map(([tag, value]) => <a key={tag} class="chip" href={url("executions", { [`tag.${tag}`]: value })}>{tag} = {value}</a>)}
      </p>
      {graph.data && <GraphCanvas graph={graph.data} states={"r".repeat(graph.data.tasks.length)} selected={selected} again={null} isFollowing={false} choose={setSelected} />}
      {task && <p><strong>{task.id}</strong> <span class="quiet">{task.kind} · at most {task.max_attempts} attempts{task.timeout_us !== null && ` · timeout ${duration(task.timeout_us)}`} · code {task.fingerprint.slice(0, 12)}</span></p>}
      <section aria-labelledby="runs"><h2 id="runs">Last executions</h2>
        {runs.data && <Durations runs={runs.data.items} />}
        {runs.data?.items.length === 0 && <p class="quiet">It never ran.</p>}
        <ul class="compact">{runs.data?.items.slice(0, 15).map((run) => (
          <li key={run.id}><State of={run.status} /> <a class="mono" href={url(`executions/${run.id}`)}>{shortId(run.id)}</a> <span class="quiet"><Time at={run.created_at} />{elapsed(run) && ` · ${elapsed(run)}`}</span> {run.error && <span class="error-cell">{run.error.type}: {run.error.message}</span>}</li>
        ))}</ul>
      </section>
      {own.length > 0 && <section aria-labelledby="own"><h2 id="own">Schedules and triggers</h2><ul class="compact">{own.map((schedule) => <li key={schedule.id}><a href={url(`schedules/${schedule.id}`)}>{schedule.cron ?? schedule.name}</a> <span class="quiet">{!schedule.enabled ? "disabled" : schedule.next_at ? <>next <Time at={schedule.next_at} isRelative /></> : "enabled"}</span></li>)}</ul></section>}
      <section aria-labelledby="defined"><h2 id="defined">Tasks</h2>
        <div class="scroll" tabIndex={0}><table class="list">
          <thead><tr><th>Task</th><th>Kind</th><th>After</th><th class="number">Attempts</th><th class="number">Timeout</th><th>Code</th></tr></thead>
          <tbody>{data.defined_tasks.slice(0, 500).map((one) => <tr key={one.id}><td>{one.id}</td><td>{one.kind}</td><td class="grow">{one.dependencies.slice(0, 12).join(", ")}{one.dependencies.length > 12 && ` and ${one.dependencies.length - 12} more`}</td><td class="number">{one.max_attempts}</td><td class="number">{one.timeout_us === null ? "–" : duration(one.timeout_us)}</td><td class="mono">{one.fingerprint.slice(0, 12)}</td></tr>)}</tbody>
        </table></div>
        {data.defined_tasks.length > 500 && <p class="quiet">Only the first 500 of {data.defined_tasks.length} tasks are shown.</p>}
      </section>
    </>
  );
}
