// The timeline. By task, it shows when each task waited, for what, and when it ran. By runner, it shows when tasks ran on each
// runner.
import { useMemo, useState } from "preact/hooks";
import { getAll } from "../lib/api.ts";
import { duration, grouped, micros, now } from "../lib/time.ts";
import { taskLink } from "../lib/route.ts";
import type { Event, Execution, Task } from "../lib/types.ts";
import { useLoad } from "../lib/use.ts";
import { Choice, ErrorBox, Loading, Rows, shortId } from "../parts/basics.tsx";
import { family } from "../parts/state.tsx";
import { loadEvents } from "./history.tsx";
import { attemptsOf } from "./task.tsx";

/** Maximum number of tasks that are loaded. */
const MAX_TASKS = 2000;

/** Returns the milliseconds since 1970, with fractions. */
const millis = (text: string) => micros(text) / 1000;

interface Part {
  kind: "waits" | "queued" | "run" | "retry";
  state: string;
  from: number;
  to: number;
  title: string;
}

interface Lane {
  title: string;
  task: string | null;
  parts: Part[];
  rescues: number[];
  /** A text that is shown instead of bars. */
  note: string;
}

function lanesOf(execution: Execution, tasks: readonly Task[], events: readonly Event[], at: number): Lane[] {
  const ends = new Map(tasks.map((task) => [task.id, task.ended_at]));
  const created = millis(execution.start_at ?? execution.created_at);
  const end = execution.ended_at === null ? at : millis(execution.ended_at);
  const byTask = Map.groupBy(events.filter((event) => event.task !== null), (event) => event.task ?? "");
  return tasks.map((task) => {
    const own = byTask.get(task.id) ?? [];
    const attempts = attemptsOf(task, own).reverse();
    const parts: Part[] = [];
    const dependencies = task.dependencies.map((name) => ends.get(name) ?? null);
    const isBlocked = dependencies.some((ended) => ended === null);
    const ready = isBlocked ? null : Math.max(created, ...dependencies.map((ended) => millis(ended ?? "")));
    const first = attempts[0]?.started ? millis(attempts[0].started) : null;
    const add = (kind: Part["kind"], state: string, from: number, to: number, title: string) => {
      if (to > from) parts.push({ kind, state, from, to, title: `${title}: ${duration((to - from) * 1000)}` });
    };
    if (task.status !== "Skipped" && task.status !== "Cancelled") {
      add("waits", "Pending", created, ready ?? first ?? end, "waited for other tasks");
    }
    if (ready !== null && task.status !== "Skipped") add("queued", "Ready", ready, first ?? (task.ended_at ? ready : end), "ready, waited for a worker");
    attempts.forEach((attempt, index) => {
      const from = millis(attempt.started ?? "");
      const to = attempt.ended === null ? end : millis(attempt.ended);
      // An attempt that ends at the time of its start is drawn with a length of 1 µs, because `add` drops empty parts.
      add("run", attempt.state, from, Math.max(to, from + 0.001), `attempt ${attempt.number} ${attempt.state.toLowerCase()}`);
      const next = attempts[index + 1]?.started;
      if (next) add("retry", "Retrying", to, millis(next), "waited for the next attempt");
      else if (attempt.ended && task.status === "Ready") add("retry", "Retrying", to, end, "waits for the next attempt");
    });
    const rescues = own.filter((event) => event.type === "task_rescued").map((event) => millis(event.time));
    const note = parts.length > 0 ? "" : task.status === "Skipped" ? "skipped" : task.status === "Cancelled" ? "cancelled before its start" : "";
    return { title: task.id, task: task.id, parts, rescues, note };
  });
}

function runnerLanes(tasks: readonly Task[], events: readonly Event[], end: number): Lane[] {
  const lanes = new Map<string, Lane>();
  const byTask = Map.groupBy(events.filter((event) => event.task !== null), (event) => event.task ?? "");
  for (const task of tasks) {
    for (const attempt of attemptsOf(task, byTask.get(task.id) ?? [])) {
      const runner = attempt.runner ?? task.runner ?? "unknown";
      const lane = lanes.get(runner) ?? { title: shortId(runner), task: null, parts: [], rescues: [], note: "" };
      const from = millis(attempt.started ?? "");
      const to = attempt.ended === null ? end : millis(attempt.ended);
      lane.parts.push({ kind: "run", state: attempt.state, from, to: Math.max(to, from + 0.001), title: `${task.id}, attempt ${attempt.number}: ${duration((to - from) * 1000)}` });
      lanes.set(runner, lane);
    }
  }
  return [...lanes.values()];
}

const HEIGHTS = { waits: [9, 2], queued: [5, 10], run: [3, 14], retry: [8, 4] } as const;

function Bars({ lane, from, span }: { lane: Lane; from: number; span: number }) {
  const x = (time: number) => ((time - from) / span) * 1000;
  return (
    <svg class="bar" viewBox="0 0 1000 20" preserveAspectRatio="none" aria-hidden="true">
      {lane.parts.map((part, index) => {
        const [y, height] = HEIGHTS[part.kind];
        return (
          <rect key={index} class={`part-${part.kind} ${family(part.state)}`} x={x(part.from)} width={Math.max(2, x(part.to) - x(part.from))} y={y} height={height}>
            <title>{part.title}</title>
          </rect>
        );
      })}
      {lane.rescues.map((time) => <path key={time} class="rescue" d={`M${x(time)} 1v18`}><title>rescued from a dead runner</title></path>)}
    </svg>
  );
}

export function TimelineTab({ execution, selected }: { execution: Execution; selected: string | null }) {
  const { data, error } = useLoad(`timeline ${execution.id}`, async (signal) => {
    const [tasks, events] = await Promise.all([
      getAll<Task>(`/executions/${execution.id}/tasks?limit=200`, MAX_TASKS, signal),
      loadEvents(execution.id, signal),
    ]);
    return { tasks, events };
  });
  const [by, setBy] = useState<"task" | "runner">("task");
  const [zoom, setZoom] = useState<"all" | "work">("work");
  const isOpen = execution.ended_at === null;
  const at = isOpen ? now.value : 0;
  const lanes = useMemo(() => {
    if (!data) return [];
    const end = execution.ended_at === null ? at : millis(execution.ended_at);
    return by === "task" ? lanesOf(execution, data.tasks, data.events, at) : runnerLanes(data.tasks, data.events, end);
  }, [data, by, execution, at]);
  if (error) return <ErrorBox error={error} />;
  if (!data) return <Loading />;
  const started = lanes.flatMap((lane) => lane.parts.filter((part) => part.kind === "run").map((part) => part.from));
  const created = millis(execution.created_at);
  const from = zoom === "work" && started.length > 0 ? Math.min(...started) : created;
  const last = Math.max(from + 1, ...lanes.flatMap((lane) => lane.parts.map((part) => part.to)));
  const span = last - from;
  return (
    <>
      <div class="filters">
        <Choice label="Rows" value={by} choose={setBy} options={[["task", "By task"], ["runner", "By runner"]]} />
        <Choice label="Range" value={zoom} choose={setZoom} options={[["work", "From the first start"], ["all", "From the submission"]]} />
        <ul class="inline legend" aria-label="Legend">
          <li><span class="swatch waits" aria-hidden="true" /> waits for tasks</li>
          <li><span class="swatch queued" aria-hidden="true" /> waits for a worker</li>
          <li><span class="swatch run" aria-hidden="true" /> runs</li>
          <li><span class="swatch retry" aria-hidden="true" /> waits for a retry</li>
        </ul>
      </div>
      <div class="axis" aria-hidden="true">
        <span />
        <div>{[0, 0.25, 0.5, 0.75, 1].map((share) => <span key={share}>{duration(span * share * 1000)}</span>)}</div>
      </div>
      <Rows count={lanes.length} height={24} label={by === "task" ? "Timeline by task" : "Timeline by runner"}
        shown={selected ? lanes.findIndex((lane) => lane.task === selected) : undefined} render={(index) => {
          const lane = lanes[index];
          if (!lane) return null;
          const text = lane.parts.map((part) => part.title).join("; ");
          return (
            <div class={lane.task !== null && lane.task === selected ? "lane at" : "lane"}>
              {lane.task ? <a href={taskLink(lane.task)} title={lane.title}>{lane.title}</a> : <span class="mono">{lane.title}</span>}
              <span class="hidden">{text}</span>
              {lane.note ? <span class="quiet">{lane.note}</span> : <Bars lane={lane} from={from} span={span} />}
            </div>
          );
        }} />
      {data.tasks.length >= MAX_TASKS && <p class="quiet">Only the first {grouped(MAX_TASKS)} tasks are shown.</p>}
    </>
  );
}
