// The page of an execution: its state, the reasons for its state, and the tabs.
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, address, get, send } from "../lib/api.ts";
import { useKeys } from "../lib/keys.ts";
import { fragment, go, select, taskLink, url } from "../lib/route.ts";
import { duration, grouped, now } from "../lib/time.ts";
import type { Execution, Page, Reason, Summary, TaskStatus } from "../lib/types.ts";
import { useGet } from "../lib/use.ts";
import { Command, Copy, Dialog, Loading, Missing, Time, copy, isLink, say, shortId, useShown } from "../parts/basics.tsx";
import { ACTIONS, type Action, ControlDialog, NAMES, allows, may } from "../parts/control.tsx";
import { Payload } from "../parts/json.tsx";
import { State } from "../parts/state.tsx";
import { SignalDialog, Waits } from "../parts/waits.tsx";
import { Children } from "./children.tsx";
import { HistoryTab } from "./history.tsx";
import { LogsTab } from "./logs.tsx";
import { OverviewTab } from "./overview.tsx";
import { StepsTab } from "./steps.tsx";
import { TaskPanel } from "./task.tsx";
import { TimelineTab } from "./timeline.tsx";

const TABS = [["overview", "Graph and tasks"], ["timeline", "Timeline"], ["logs", "Logs"], ["context", "Context"], ["history", "History"], ["steps", "Steps"], ["children", "Children"]] as const;
const ORDER: TaskStatus[] = ["Completed", "Running", "Failed", "Waiting", "Ready", "Pending", "Skipped", "Cancelled"];


function Why({ execution }: { execution: Execution }) {
  const isOpen = execution.ended_at === null;
  const { data } = useGet<Page<Reason>>(isOpen ? `/executions/${execution.id}/explain` : null);
  const box = useRef<HTMLElement>(null);
  useKeys({ e: () => box.current?.focus() });
  if (!isOpen) {
    const { error } = execution;
    if (!error) return null;
    return (
      <section class="why bad" aria-label="The error" tabIndex={-1} ref={box}>
        <p>
          {error.task && <><a href={taskLink(error.task)}><code>{error.task}</code></a> failed: </>}
          <strong>{error.type}</strong> {error.message}
        </p>
        {error.traceback && (
          <details>
            <summary>Traceback</summary>
            <pre class="code" tabIndex={0}>{error.traceback.trimEnd()}</pre>
          </details>
        )}
        <p class="quiet">
          <a href={url("executions", { workflow: execution.workflow, status: "Failed" })}>Other failed executions of {execution.workflow}</a>
          {" · "}<a href={url("compare", { a: "last-success", b: execution.id })}>Compare with the last success</a>
        </p>
      </section>
    );
  }
  const reasons = data?.items ?? [];
  if (reasons.length === 0) return null;
  return (
    <section class="why" aria-labelledby="why" tabIndex={-1} ref={box}>
      <h2 id="why">Why it is not done</h2>
      <ol>
        {reasons.slice(0, 12).map((reason, index) => (
          <li key={index} class={index === 0 ? "first" : ""}>
            {reason.sentence}
            {reason.task && <> <a href={taskLink(reason.task)}>show {reason.task}</a></>}
            {reason.until && !reason.sentence.includes("(in ") && <span class="quiet"> <Time at={reason.until} isRelative /></span>}
            {reason.remedy && <p class="remedy">To resolve it: {reason.remedy}.</p>}
            {reason.remedy && /runner/.test(reason.remedy) && <Command text="cloaca worker FILE.py" />}
          </li>
        ))}
      </ol>
      {reasons.length > 12 && <p class="quiet">and {reasons.length - 12} more</p>}
    </section>
  );
}

function Counts({ execution }: { execution: Execution }) {
  const total = Object.values(execution.tasks).reduce((sum, count) => sum + count, 0);
  const parts = ORDER.filter((state) => execution.tasks[state]).map((state) => [state, execution.tasks[state] ?? 0] as const);
  let left = 0;
  return (
    <div class="counts">
      <svg class="stack" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
        {parts.map(([state, count]) => {
          const x = left;
          left += (count / total) * 100;
          return <rect key={state} class={`fill-${state}`} x={x} y="0" height="6" width={(count / total) * 100} />;
        })}
      </svg>
      <ul class="inline" aria-label="Tasks by state">{parts.map(([state, count]) => <li key={state}><State of={state} note={grouped(count)} /></li>)}</ul>
    </div>
  );
}

function Facts({ execution }: { execution: Execution }) {
  const running = execution.started_at && !execution.ended_at ? Math.max(0, now.value - Date.parse(execution.started_at)) * 1000 : null;
  const labels = Object.entries(execution.labels ?? {});
  return (
    <dl class="facts">
      <div><dt>Submitted</dt><dd><Time at={execution.created_at} isExact /></dd></div>
      {execution.start_at && !execution.started_at && <div><dt>Starts</dt><dd><Time at={execution.start_at} isRelative /></dd></div>}
      <div><dt>Started</dt><dd><Time at={execution.started_at} isExact /></dd></div>
      <div><dt>Ended</dt><dd><Time at={execution.ended_at} isExact /></dd></div>
      <div><dt>Duration</dt><dd>{execution.duration_us !== null ? duration(execution.duration_us) : running !== null ? duration(running) : "–"}</dd></div>
      {execution.key && <div><dt>Key</dt><dd class="mono">{execution.key}</dd></div>}
      {execution.parent && <div><dt>Child of</dt><dd><a class="mono" href={url(`executions/${execution.parent}`)}>{shortId(execution.parent)}</a></dd></div>}
      {execution.priority !== 0 && <div><dt>Priority</dt><dd>{execution.priority}</dd></div>}
      {execution.deadline_at && <div><dt>Deadline</dt><dd><Time at={execution.deadline_at} /></dd></div>}
      {labels.map(([name, value]) => <div key={name}><dt>{name}</dt><dd><a href={url("executions", { [`label.${name}`]: value })}>{value}</a></dd></div>)}
    </dl>
  );
}

function ContextTab({ id }: { id: string }) {
  return (
    <div class="two">
      <section aria-labelledby="input"><h2 id="input">Input</h2><Payload path={`/executions/${id}/input`} empty="It was submitted without input." /></section>
      <section aria-labelledby="output"><h2 id="output">Context</h2><Payload path={`/executions/${id}/output`} empty="No task has written anything yet." /></section>
    </div>
  );
}

async function neighbour(id: string, isOlder: boolean): Promise<void> {
  const { items } = await get<Page<Summary>>("/executions?limit=200");
  const place = items.findIndex((item) => item.id === id);
  const other = place < 0 ? undefined : items[place + (isOlder ? 1 : -1)];
  if (other) go(url(`executions/${other.id}`));
}

async function remove(id: string): Promise<void> {
  try {
    await send("DELETE", `/executions/${encodeURIComponent(id)}`);
    say("The execution was deleted.");
    go(url("executions"));
  } catch (error) {
    say(error instanceof ApiError ? error.message : String(error), true);
  }
}

export function ExecutionPage({ id, tab }: { id: string; tab: string }) {
  const path = `/executions/${encodeURIComponent(id)}`;
  const { data: execution, error, reload } = useGet<Execution>(path);
  const [action, setAction] = useState<{ action: Action; fromTask?: string } | null>(null);
  const [isSending, setSending] = useState(false);
  const [isDeleting, setDeleting] = useState(false);
  const task = fragment.value.get("task");
  const tabs = useShown(`${tab} ${execution !== undefined}`);
  const tabTo = (name: string) => () => go(url(`executions/${id}${name === "overview" ? "" : `/${name}`}`));
  const rerun = () => execution && go(url(`workflows/${encodeURIComponent(execution.workflow)}/start`, { from: id }));
  useKeys({
    d: tabTo("overview"), t: tabTo("timeline"), l: tabTo("logs"), h: tabTo("history"),
    r: rerun,
    "[": () => void neighbour(id, false), "]": () => void neighbour(id, true),
    ".": () => document.querySelector<HTMLElement>(".actions button")?.focus(),
    c: () => void copy(id),
    Escape: () => select(null),
  });
  useEffect(() => {
    if (task) document.querySelector<HTMLElement>(".panel")?.focus({ preventScroll: true });
  }, [task]);
  if (error && !execution) return <Missing kind="execution" list="executions" error={error} retry={reload} />;
  if (!execution) return <Loading />;
  return (
    <>
      <div class="title-line">
        <h1><a href={url(`workflows/${encodeURIComponent(execution.workflow)}`)}>{execution.workflow}</a> <State of={execution.status} /></h1>
        <div class="actions" role="toolbar" aria-label="Actions">
          {may("control") && NAMES.filter((name) => allows(name, execution.status)).map((name) => (
            <button type="button" key={name} class={name === "cancel" ? "danger" : name === "retry" ? "primary" : ""} onClick={() => setAction({ action: name })}>{ACTIONS[name].title}…</button>
          ))}
          {may("start") && <button type="button" onClick={rerun}>Run again…</button>}
          <details class="menu" name="menu">
            <summary aria-label="More actions"><span aria-hidden="true">⋯</span></summary>
            <div class="menu-body">
              <a href={url("compare", { a: "last-success", b: id })}>Compare with the last success</a>
              <button type="button" class="plain" onClick={() => void copy(`cloaca show ${id}`)}>Copy the terminal command</button>
              <a href={address(`${path}/export?format=html`)} download={`${id}.html`}>Export as an HTML file</a>
              <a href={address(`${path}/export?format=json`)} download={`${id}.json`}>Export as JSON</a>
              {may("control") && execution.ended_at === null && <button type="button" class="plain" onClick={() => setSending(true)}>Send a signal to it…</button>}
              {may("delete") && execution.ended_at !== null && <button type="button" class="plain" onClick={() => setDeleting(true)}>Delete it…</button>}
              <a href={url("executions", { workflow: execution.workflow })}>Executions of this workflow</a>
              {isLink(execution.trace_url) && <a href={execution.trace_url} target="_blank" rel="noopener noreferrer">Open its trace</a>}
            </div>
          </details>
        </div>
      </div>
      <p class="ids"><span class="mono">{id}</span><Copy text={id} what="the id" /> <span class="quiet">version</span> <span class="mono" title={execution.version}>{execution.version.slice(0, 12)}</span></p>
      <Facts execution={execution} />
      <Counts execution={execution} />
      <Why execution={execution} />
      {execution.ended_at === null && <Waits execution={id} />}
      <nav class="tabs" aria-label="Parts of the execution" ref={tabs}>
        {TABS.map(([name, title]) => (
          <a key={name} href={url(`executions/${id}${name === "overview" ? "" : `/${name}`}`, {}, task ? `task=${encodeURIComponent(task)}` : "")} aria-current={tab === name ? "page" : undefined}>{title}</a>
        ))}
      </nav>
      <div class={task ? "with-panel" : ""}>
        <div class="tab-body">
          {tab === "overview" && <OverviewTab execution={execution} selected={task} isOffered={action?.fromTask !== undefined} />}
          {tab === "timeline" && <TimelineTab execution={execution} selected={task} />}
          {tab === "logs" && <LogsTab id={id} task={task} />}
          {tab === "context" && <ContextTab id={id} />}
          {tab === "history" && <HistoryTab execution={execution} />}
          {tab === "steps" && <StepsTab execution={execution} />}
          {tab === "children" && <Children id={id} />}
        </div>
        {task && <TaskPanel key={task} execution={execution} task={task} runAgain={() => setAction({ action: "retry", fromTask: task })} />}
      </div>
      {isDeleting && (
        <Dialog title="Delete the execution" close={() => setDeleting(false)}>
          <p>Its history, its logs and all its data are deleted. This cannot be undone.</p>
          <footer>
            <button type="button" onClick={() => setDeleting(false)}>Keep it</button>
            <button type="button" class="danger" onClick={() => void remove(id).then(() => setDeleting(false))}>Delete</button>
          </footer>
        </Dialog>
      )}
      {isSending && <SignalDialog to={id} close={() => setSending(false)} />}
      {action && <ControlDialog action={action.action} fromTask={action.fromTask} items={[execution]} close={() => setAction(null)} />}
    </>
  );
}
