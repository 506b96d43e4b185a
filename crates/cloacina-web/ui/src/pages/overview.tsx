// The graph of an execution's tasks, and a table of the same tasks.
import { useMemo, useState } from "preact/hooks";
import { getAll, part } from "../lib/api.ts";
import { select, taskLink } from "../lib/route.ts";
import { duration, now } from "../lib/time.ts";
import type { StatesView } from "../lib/schema.ts";
import type { Execution, Graph, Task } from "../lib/types.ts";
import { useGet, useLoad } from "../lib/use.ts";
import { ErrorBox, Loading, Rows, shortId } from "../parts/basics.tsx";
import { GraphCanvas, STATE_OF, descendants } from "../parts/graph.tsx";
import { State } from "../parts/state.tsx";

/** Maximum number of tasks whose details the table shows. If there are more tasks, the table shows only their states. */
const MAX_DETAILED = 1000;

/** The letters of the states, in the order in which the table lists the tasks if there are many. */
const SHOWN = ["F", "R", "w", "r", "p", "C", "S", "X"];

function TaskRow({ name, letter, task, isSelected }: { name: string; letter: string; task: Task | undefined; isSelected: boolean }) {
  const length = task?.duration_us ?? (task?.started_at && !task.ended_at ? (now.value - Date.parse(task.started_at)) * 1000 : null);
  return (
    <div class={isSelected ? "task-row at" : "task-row"}>
      <State of={STATE_OF[letter] ?? "Pending"} />
      <a href={taskLink(name)} title={name}>{name}</a>
      <span class="number">{task && task.attempts > 1 ? `${task.attempts} attempts` : ""}</span>
      <span class="number">{length !== null && length >= 0 ? duration(length) : ""}</span>
      <span class="wide-only quiet" title={task?.runner ?? ""}>{task?.runner ? shortId(task.runner) : ""}</span>
      <span class="error-cell">{task?.error ? `${task.error.type}: ${task.error.message}` : (task?.skip_reason ?? "")}</span>
    </div>
  );
}

/** The graph and the table of the tasks. While `isOffered`, the dialog that runs the selected task again is open. */
export function OverviewTab({ execution, selected, isOffered }: { execution: Execution; selected: string | null; isOffered: boolean }) {
  const { id, workflow, version } = execution;
  const graph = useGet<Graph>(`/workflows/${part(workflow)}/versions/${part(version)}/graph`, false);
  const states = useGet<StatesView>(`/executions/${id}/states`);
  const total = graph.data?.tasks.length ?? 0;
  const tasks = useLoad(total > 0 && total <= MAX_DETAILED ? `tasks ${id}` : null, (signal) => getAll<Task>(`/executions/${id}/tasks?limit=200`, MAX_DETAILED, signal));
  const [wanted, setWanted] = useState("");
  const [isFollowing, setFollowing] = useState(false);
  const [showsAgain, setAgain] = useState(false);

  const letters = states.data?.states ?? "";
  const place = selected === null || !graph.data ? -1 : graph.data.tasks.indexOf(selected);
  const again = useMemo(() => ((showsAgain || isOffered) && graph.data && place >= 0 ? descendants(graph.data, place) : null), [showsAgain, isOffered, graph.data, place]);
  const details = useMemo(() => new Map(tasks.data?.map((task) => [task.id, task])), [tasks.data]);
  const rows = useMemo(() => {
    const names = graph.data?.tasks ?? [];
    const text = wanted.trim().toLowerCase();
    const found = [...names.keys()].filter((index) => !text || names[index]?.toLowerCase().includes(text) || (STATE_OF[letters[index] ?? ""] ?? "").toLowerCase() === text);
    if (found.length <= MAX_DETAILED) return found;
    // If there are many tasks, the tasks that need attention come first.
    return found.sort((left, right) => SHOWN.indexOf(letters[left] ?? "") - SHOWN.indexOf(letters[right] ?? "") || left - right);
  }, [graph.data, letters, wanted]);

  if (graph.error) return <ErrorBox error={graph.error} retry={graph.reload} />;
  if (!graph.data || !states.data) return <Loading />;
  const names = graph.data.tasks;
  return (
    <div class="overview">
      <GraphCanvas graph={graph.data} states={letters} selected={place} again={again} isFollowing={isFollowing}
        choose={(index) => select(names[index] ?? null)} />
      <form class="filters" role="search" aria-label="Find tasks" onSubmit={(event) => event.preventDefault()}>
        <label><span>Task or state</span><input data-filter type="search" value={wanted} onInput={(event) => setWanted(event.currentTarget.value)} /></label>
        {execution.ended_at === null && <label class="box-label"><input type="checkbox" checked={isFollowing} onChange={(event) => setFollowing(event.currentTarget.checked)} /> <span>follow the running task</span></label>}
        {place >= 0 && <label class="box-label"><input type="checkbox" checked={showsAgain} onChange={(event) => setAgain(event.currentTarget.checked)} /> <span>mark the tasks that would run again</span></label>}
        <span class="quiet">{rows.length === names.length ? "" : `${rows.length} of `}{names.length === 1 ? "1 task" : `${names.length} tasks`}</span>
      </form>
      <Rows count={rows.length} height={30} label="Tasks" shown={place >= 0 ? rows.indexOf(place) : undefined} render={(index) => {
        const task = rows[index] ?? 0;
        const name = names[task] ?? "";
        return <TaskRow name={name} letter={letters[task] ?? "p"} task={details.get(name)} isSelected={task === place} />;
      }} />
    </div>
  );
}
