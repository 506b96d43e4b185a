// The panel of a task: its attempts with errors and logs, the context that it received, the values that it wrote, and its
// items, steps and children.
import { useState } from "preact/hooks";
import { ApiError, part } from "../lib/api.ts";
import { type Json, differences, isObject, write } from "../lib/json.ts";
import { select, taskLink } from "../lib/route.ts";
import { duration, micros, now } from "../lib/time.ts";
import type { Event, Execution, Page, Progress, Task } from "../lib/types.ts";
import { useGet, useLoad } from "../lib/use.ts";
import { ErrorBox, Loading, Time, shortId } from "../parts/basics.tsx";
import { may } from "../parts/control.tsx";
import { Payload, loadValue } from "../parts/json.tsx";
import { State } from "../parts/state.tsx";
import { Waits } from "../parts/waits.tsx";
import { Children } from "./children.tsx";
import { ItemCounts, Items } from "./items.tsx";
import { LogList } from "./logs.tsx";
import { TaskSteps } from "./steps.tsx";

export interface Attempt {
  number: number;
  state: string;
  runner: string | null;
  started: string | null;
  ended: string | null;
  error: { type: string; message: string; traceback?: string | null } | null;
}

const ENDS: Record<string, string> = {
  task_completed: "Completed", task_failed: "Failed", task_retrying: "Failed", task_cancelled: "Cancelled",
  task_rescued: "Cancelled", task_snoozed: "Paused", task_released: "Paused", task_skipped: "Skipped",
};

/** Returns the attempts of a task, newest first, from its events and its current state. */
export function attemptsOf(task: Task, events: readonly Event[]): Attempt[] {
  const attempts: Attempt[] = [];
  for (const event of events) {
    if (event.task !== task.id) continue;
    const last = attempts.at(-1);
    if (event.type === "task_started") {
      attempts.push({ number: event.attempt ?? attempts.length + 1, state: "Running", runner: event.runner, started: event.time, ended: null, error: null });
    } else if (ENDS[event.type] && last && last.ended === null) {
      last.state = ENDS[event.type] ?? last.state;
      last.ended = event.time;
      last.runner = event.runner ?? last.runner;
      const error = event.data?.error;
      if (error && typeof error === "object") last.error = error as Attempt["error"];
    }
  }
  const last = attempts.at(-1);
  if (last && task.error && last.ended !== null && last.state === "Failed") last.error = task.error;
  return attempts.reverse();
}

function AttemptView({ attempt, execution, task }: { attempt: Attempt; execution: Execution; task: string }) {
  const { started, ended, error } = attempt;
  const length = started === null ? null : (ended === null ? now.value * 1000 : micros(ended)) - micros(started);
  const [hasLogs, setLogs] = useState(false);
  return (
    <li class="attempt">
      <p><strong>Attempt {attempt.number}</strong> <State of={attempt.state} /> <span class="quiet">{length !== null && duration(Math.max(0, length))}</span></p>
      <p class="quiet"><Time at={started} isExact />{attempt.runner && <> on <span class="mono" title={attempt.runner}>{shortId(attempt.runner)}</span></>}</p>
      {error && <p class="error-text"><strong>{error.type}</strong> {error.message}</p>}
      {error?.traceback && <details open={attempt.state === "Failed"}><summary>Traceback</summary><pre class="code" tabIndex={0}>{error.traceback.trimEnd()}</pre></details>}
      <button type="button" class="plain" aria-expanded={hasLogs} onClick={() => setLogs(!hasLogs)}>{hasLogs ? "Hide the log lines" : "Show the log lines"}</button>
      {hasLogs && <LogList path={`/executions/${execution.id}/logs?task=${part(task)}&attempt=${attempt.number}&limit=1000`} label={`Log lines of attempt ${attempt.number}`} />}
    </li>
  );
}

const shown = (value: Json | undefined) => {
  if (value === undefined) return "";
  const text = write(value);
  return text.length > 2000 ? `${text.slice(0, 2000)}…` : text;
};

/** The values that the task wrote, compared with the context that it received. */
function Written({ execution, task }: { execution: Execution; task: string }) {
  const path = `/executions/${execution.id}/tasks/${part(task)}`;
  const { data, error } = useLoad(`${path} ${execution.revision}`, async (signal) => {
    const [wrote, saw] = await Promise.all([loadValue(`${path}/output`, signal), loadValue(`${path}/view`, signal).catch(() => null)]);
    return { wrote, saw };
  });
  if (error) return <ErrorBox error={error} />;
  if (!data) return <Loading />;
  if (data.wrote.isCut) return <Payload path={`${path}/output`} />;
  // In the stored form, `s` has the keys that were set, and `r` has the keys that were removed.
  const delta = isObject(data.wrote.value) ? data.wrote.value : {};
  const value = isObject(delta.s) ? delta.s : {};
  const removed = Array.isArray(delta.r) ? delta.r.filter((name) => typeof name === "string") : [];
  if (Object.keys(value).length + removed.length === 0) return <p class="quiet">It wrote nothing to the context.</p>;
  const before = isObject(data.saw?.value) ? data.saw.value : {};
  const changed = [
    ...Object.keys(value).flatMap((name) => differences(before[name], value[name], name)),
    ...removed.map((name) => ({ path: name, before: before[name] ?? null, after: undefined })),
  ];
  const names = new Set(changed.map((one) => one.path.split(".")[0]));
  const same = Object.keys(value).filter((name) => !names.has(name));
  return (
    <>
      <ul class="diff" aria-label="Changes of the context">
        {changed.slice(0, 200).map(({ path: name, before, after }) => (
          <li key={name} class={before === undefined ? "added" : after === undefined ? "removed" : "changed"}>
            <span class="sign" aria-label={before === undefined ? "added" : after === undefined ? "removed" : "changed"}>{before === undefined ? "+" : after === undefined ? "−" : "~"}</span>
            <code>{name}</code>
            {before !== undefined && <pre class="before">{shown(before)}</pre>}
            {after !== undefined && <pre>{shown(after)}</pre>}
          </li>
        ))}
      </ul>
      {same.length > 0 && <p class="quiet">Written again without a change: {same.join(", ")}</p>}
    </>
  );
}

export function TaskPanel({ execution, task, runAgain }: { execution: Execution; task: string; runAgain: () => void }) {
  const path = `/executions/${execution.id}/tasks/${part(task)}`;
  const { data, error } = useGet<Task>(path);
  const history = useGet<Page<{ events: Event[] }>>(`${path}/attempts`);
  const isOpen = execution.ended_at === null;
  const progress = useGet<Page<Progress>>(isOpen ? `/executions/${execution.id}/progress` : null);
  const [chosen, setTab] = useState<"items" | "attempts" | "wrote" | "saw" | "steps" | "children" | null>(null);
  const close = <button type="button" class="plain" aria-label="Close the task" title="Close (Esc)" onClick={() => select(null)}>×</button>;
  if (error) return <aside class="panel" aria-label={`Task ${task}`} tabIndex={-1}>{close}<ErrorBox error={error as ApiError} /></aside>;
  if (!data) return <aside class="panel" aria-label={`Task ${task}`} tabIndex={-1}><Loading /></aside>;
  const report = progress.data?.items.find((one) => one.task === task);
  const tab = chosen ?? (data.map ? "items" : "attempts");
  const attempts = attemptsOf(data, history.data?.items.flatMap((item) => item.events) ?? []);
  return (
    <aside class="panel" aria-label={`Task ${task}`} tabIndex={-1}>
      <header>
        <h2>{task} <State of={data.status} /></h2>
        {close}
      </header>
      <p class="quiet">
        {data.attempts} of {data.max_attempts} attempts{data.rescues > 0 && ` · rescued ${data.rescues} times`}
        {data.duration_us !== null && ` · ${duration(data.duration_us)}`}
        {data.ready_at && data.status === "Ready" && <> · due <Time at={data.ready_at} isRelative /></>}
      </p>
      {data.skip_reason && <p>Skipped: {data.skip_reason}</p>}
      {data.dependencies.length > 0 && (
        <p class="quiet">after {data.dependencies.slice(0, 20).map((name) => <span key={name}><a href={taskLink(name)}>{name}</a> </span>)}{data.dependencies.length > 20 && `and ${data.dependencies.length - 20} more`}</p>
      )}
      {data.map && <ItemCounts map={data.map} />}
      {report && !data.map && (
        <div class="progress">
          <progress value={report.total ? report.done : undefined} max={report.total ?? undefined} aria-label="Progress" />
          <span>{report.done}{report.total ? ` of ${report.total}` : ""} {report.message}</span>
        </div>
      )}
      {data.status === "Waiting" && !data.map && <Waits execution={execution.id} task={task} />}
      {may("control") && !isOpen && <button type="button" onClick={runAgain}>Run again from here…</button>}
      <div class="tabs small" role="group" aria-label="Parts of the task">
        {([...(data.map ? [["items", "Items"] as const] : []), ["attempts", "Attempts"], ["wrote", "What it wrote"], ["saw", "What it saw"], ["steps", "Steps"], ["children", "Children"]] as const).map(([name, title]) => (
          <button type="button" key={name} aria-pressed={tab === name} onClick={() => setTab(name)}>{title}</button>
        ))}
      </div>
      {tab === "items" && data.map && <Items path={path} map={data.map} isOpen={data.ended_at === null} />}
      {tab === "attempts" && (
        attempts.length > 0
          ? <ol class="attempts">{attempts.map((attempt, index) => <AttemptView key={`${attempt.number} ${index}`} attempt={attempt} execution={execution} task={task} />)}</ol>
          : data.error
            ? <div class="error-text"><strong>{data.error.type}</strong> {data.error.message}{data.error.traceback && <pre class="code" tabIndex={0}>{data.error.traceback}</pre>}</div>
            : <p class="quiet">It has not started yet.</p>
      )}
      {tab === "wrote" && <Written execution={execution} task={task} />}
      {tab === "steps" && <TaskSteps execution={execution.id} task={task} />}
      {tab === "children" && <Children id={execution.id} task={task} />}
      {tab === "saw" && <Payload path={`${path}/view`} empty="The task has not received a context." />}
    </aside>
  );
}
