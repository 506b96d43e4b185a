// The page of open executions, grouped by the reason why they have not ended.
import { useState } from "preact/hooks";
import { url } from "../lib/route.ts";
import type { Examined, WaitGroup, WaitGroups } from "../lib/types.ts";
import { useGet } from "../lib/use.ts";
import { Command, Empty, ErrorBox, Loading, Time, shortId } from "../parts/basics.tsx";
import { may } from "../parts/control.tsx";
import { Mark } from "../parts/state.tsx";
import { SignalDialog, Waits } from "../parts/waits.tsx";

const TITLES: Record<string, string> = {
  paused: "Paused", delay: "Start later", workflow_unknown: "No live runner has the workflow", no_handler: "No live runner has the task",
  retry: "Wait for the next attempt", timer: "Wait for a time", queued: "Wait for a free worker", claimed: "Claimed, start soon",
  map: "Run their items", held_by_live: "Run on a live runner", held_by_dead: "Held by a runner that is dead", held_by_gone: "Held by a runner that is gone",
  waiting: "Wait for a signal, an approval or a time", dependencies: "Wait for other tasks", deadline: "Have a deadline",
};
const ORDER = ["no_handler", "workflow_unknown", "held_by_dead", "held_by_gone", "queued", "waiting", "retry", "timer", "delay", "paused", "claimed", "map", "held_by_live", "dependencies"];
const MARKS: Record<string, string> = { held_by_live: "Running", map: "Running", paused: "Paused", retry: "Retrying", waiting: "Waiting", no_handler: "Failed", workflow_unknown: "Failed", held_by_dead: "Failed", held_by_gone: "Failed" };

const rank = (code: string) => ORDER.indexOf(code) + 1 || ORDER.length + 1;

/** Whether all open executions were examined. */
export const isComplete = ({ executions, open }: Examined) => open.kind === "exact" && executions >= open.value;

/** Says how many open executions were examined, unless all of them were examined. */
export function ExaminedNote({ examined }: { examined: Examined }) {
  if (isComplete(examined)) return null;
  const { executions, open } = examined;
  return (
    <p class="quiet" role="note">
      {executions.toLocaleString("en")} of {open.kind === "at_least" && "at least "}{open.value.toLocaleString("en")} open executions were examined: some with ready tasks in each queue, the newest ones, and those that have been running for the longest time.
    </p>
  );
}

export function WaitItem({ group }: { group: WaitGroup }) {
  const { reason, workflow, count, executions } = group;
  return (
    <li class="item">
      <Mark of={MARKS[reason.code] ?? "Ready"} />
      <div>
        <p><strong>{count > 1 && `${count} × `}{workflow}</strong>: {reason.sentence} {reason.until && !reason.sentence.includes("(in ") && <span class="quiet"><Time at={reason.until} isRelative /></span>}</p>
        {reason.remedy?.includes("runner") && <Command text="cloaca worker FILE.py" />}
        <p class="quiet">
          {reason.remedy && <>To resolve it: {reason.remedy} · </>}
          {executions.slice(0, 5).map((id) => <span key={id}><a class="mono" href={url(`executions/${id}`, {}, reason.task ? `task=${encodeURIComponent(reason.task)}` : "")}>{shortId(id)}</a> </span>)}
        </p>
      </div>
    </li>
  );
}

export function WaitingPage() {
  const { data, error, reload } = useGet<WaitGroups>("/waiting");
  const [isSending, setSending] = useState(false);
  if (error) return <><h1>Waiting</h1><ErrorBox error={error} retry={reload} /></>;
  if (!data) return <><h1>Waiting</h1><Loading /></>;
  const groups = Map.groupBy(data.items, (group) => group.reason.code);
  const sorted = [...groups].sort(([left], [right]) => rank(left) - rank(right));
  return (
    <>
      <div class="title-line">
        <h1>Waiting</h1>
        {may("control") && <div class="actions"><button type="button" onClick={() => setSending(true)}>Send a signal…</button></div>}
      </div>
      {isSending && <SignalDialog close={() => setSending(false)} />}
      <section aria-labelledby="approvals">
        <h2 id="approvals">Approvals</h2>
        <Waits kind="approval" empty="No task waits for an approval." />
      </section>
      <section aria-labelledby="signals">
        <h2 id="signals">Signals</h2>
        <Waits kind="signal" empty="No task waits for a signal." />
      </section>
      {data.items.length === 0 && data.examined.open.value === 0 && <Empty title="Nothing waits"><p>No execution is open.</p></Empty>}
      <ExaminedNote examined={data.examined} />
      {data.items.length > 0 && <p class="quiet">The open executions are grouped by what they wait for. <a href={url("executions", { status: ["Pending", "Running", "Paused"] })}>Show all open executions</a></p>}
      {sorted.map(([code, list]) => (
        <section key={code} aria-labelledby={`reason-${code}`}>
          <h2 id={`reason-${code}`}>{TITLES[code] ?? code.replaceAll("_", " ")} <span class="quiet">{list.reduce((sum, group) => sum + group.count, 0)}</span></h2>
          <ul class="items">{list.map((group) => <WaitItem key={group.workflow + (group.reason.task ?? "")} group={group} />)}</ul>
        </section>
      ))}
    </>
  );
}
