// The first page: everything that needs attention (executions that cannot continue, executions that run for much longer than
// usual, failures by cause, approvals, schedules and runners), and the newest executions.
import { useEffect, useState } from "preact/hooks";
import { attention } from "../lib/meta.ts";
import { url } from "../lib/route.ts";
import { duration, now } from "../lib/time.ts";
import type { Attention, Examined, FailureGroup, Page, Summary, Wait } from "../lib/types.ts";
import { useGet } from "../lib/use.ts";
import { ErrorBox, Loading, Time, shortId } from "../parts/basics.tsx";
import { ControlDialog, may } from "../parts/control.tsx";
import { Mark, State } from "../parts/state.tsx";
import { Waits } from "../parts/waits.tsx";
import { NoExecutions } from "./executions.tsx";
import { ExaminedNote, WaitItem, isComplete } from "./waiting.tsx";

function CauseRow({ cause }: { cause: FailureGroup }) {
  const [isAsking, setAsking] = useState(false);
  const { executions, workflow, task, type, message, count, last_at } = cause;
  const [newest] = executions;
  if (!newest) return null;
  const known = executions.length;
  return (
    <li class="item">
      <Mark of="Failed" />
      <div>
        <p>
          <strong>{count > 1 && `${count} × `}{workflow}</strong>{task && <> in task <code>{task}</code></>}: <strong>{type}</strong>{" "}
          <span class="clamp">{message}</span>
        </p>
        <p class="quiet">
          last <Time at={last_at} isRelative /> in <a class="mono" href={url(`executions/${newest}`, {}, task ? `task=${encodeURIComponent(task)}` : "")}>{shortId(newest)}</a>
          {" · "}<a href={url("executions", { workflow, status: "Failed", since: "24h" })}>show the recent failures of this workflow</a>
          {" · "}<a href={url("compare", { a: "last-success", b: newest })}>compare with the last success</a>
        </p>
      </div>
      {may("control") && <button type="button" onClick={() => setAsking(true)}>{known === 1 ? "Retry…" : known === count ? `Retry all ${known}…` : `Retry the newest ${known}…`}</button>}
      {isAsking && <ControlDialog action="retry" items={executions.map((id) => ({ id, workflow, status: "Failed" }))} close={() => setAsking(false)} />}
    </li>
  );
}

/** Says that nothing needs attention, or that nothing was found among the open executions that were examined. */
function Quiet({ completed, isMore, examined }: { completed: Summary[]; isMore: boolean; examined: Examined }) {
  const hours = Array.from({ length: 24 }, () => 0);
  for (const { created_at } of completed) {
    const hour = 23 - Math.floor((now.peek() - Date.parse(created_at)) / 3_600_000);
    if (hour >= 0 && hour < 24) hours[hour] = (hours[hour] ?? 0) + 1;
  }
  const most = Math.max(1, ...hours);
  return (
    <div class="quiet-box">
      {isComplete(examined)
        ? <p class="big"><Mark of="Completed" /> All quiet.</p>
        : <p class="big">Nothing found that needs attention.</p>}
      <ExaminedNote examined={examined} />
      <p>{isMore ? `${completed.length} or more` : completed.length} executions completed in the last 24 hours.</p>
      {completed.length > 0 && (
        <svg class="bars" viewBox="0 0 240 48" role="img" aria-label="Completed executions of the last 24 hours, by hour" preserveAspectRatio="none">
          {hours.map((count, hour) => <rect key={hour} x={hour * 10 + 1} width="8" y={48 - (count / most) * 46} height={(count / most) * 46 + 0.500} />)}
        </svg>
      )}
    </div>
  );
}

export function AttentionPage() {
  const { data, error, reload } = useGet<Attention>("/attention?since=24h");
  const done = useGet<Page<Summary>>("/executions?status=Completed&since=24h&limit=200");
  const any = useGet<Page<Summary>>("/executions?limit=1");
  const waits = useGet<Page<Wait>>("/waits?kind=approval&limit=200");
  const approvals = waits.data?.items.length ?? 0;
  const total = data ? data.blocked.length + data.failures.length + data.overdue.length + data.schedules.length + data.gone_runners.length + approvals : null;
  useEffect(() => {
    if (total !== null) attention.value = total;
  }, [total]);

  if (error) return <><h1>Attention</h1><ErrorBox error={error} retry={reload} /></>;
  if (!data || !done.data || !any.data || (!waits.data && !waits.error)) return <><h1>Attention</h1><Loading /></>;
  if (any.data.items.length === 0) return <><h1>Attention</h1><NoExecutions /></>;
  const failed = data.failures.reduce((sum, group) => sum + group.count, 0);
  return (
    <>
      <h1>Attention</h1>
      {total === 0 && <Quiet completed={done.data.items} isMore={done.data.next !== null} examined={data.examined} />}
      {data.blocked.length > 0 && (
        <section aria-labelledby="stuck">
          <h2 id="stuck">Cannot continue</h2>
          <ul class="items">{data.blocked.map((group) => <WaitItem key={group.workflow + group.reason.code + (group.reason.task ?? "")} group={group} />)}</ul>
          <ExaminedNote examined={data.examined} />
        </section>
      )}
      {data.failures.length > 0 && (
        <section aria-labelledby="failed">
          <h2 id="failed">Failed in the last 24 hours <span class="quiet">{failed >= 1000 ? "1,000 or more" : failed}</span></h2>
          <ul class="items">{data.failures.slice(0, 30).map((cause) => <CauseRow key={[cause.workflow, cause.task, cause.type, cause.error].join()} cause={cause} />)}</ul>
        </section>
      )}
      {data.overdue.length > 0 && (
        <section aria-labelledby="overdue">
          <h2 id="overdue">Running for much longer than usual</h2>
          <ul class="items">
            {data.overdue.map(({ execution, workflow, started_at, usual_us }) => (
              <li class="item" key={execution}>
                <Mark of="Running" />
                <div>
                  <p><strong>{workflow}</strong> has run for {duration(Math.max(0, now.value - Date.parse(started_at)) * 1000)}; 95 % of its executions end within {duration(usual_us)}.</p>
                  <p class="quiet"><a class="mono" href={url(`executions/${execution}`)}>{shortId(execution)}</a></p>
                </div>
              </li>
            ))}
          </ul>
        </section>
      )}
      {approvals > 0 && <section aria-labelledby="approvals"><h2 id="approvals">Approvals</h2><Waits kind="approval" /></section>}
      {data.schedules.length > 0 && (
        <section aria-labelledby="schedules">
          <h2 id="schedules">Schedules</h2>
          <ul class="items">
            {data.schedules.map(({ id, workflow, reason }) => (
              <li class="item" key={id}>
                <Mark of="Retrying" />
                <div><p><a href={url(`schedules/${id}`)}><strong>{workflow}</strong></a>: {reason.sentence}{reason.remedy && <span class="quiet"> To resolve it: {reason.remedy}.</span>}</p></div>
              </li>
            ))}
          </ul>
        </section>
      )}
      {data.gone_runners.length > 0 && (
        <section aria-labelledby="runners">
          <h2 id="runners">Runners that are gone</h2>
          <ul class="items">
            {data.gone_runners.map((id) => <li class="item" key={id}><Mark of="Cancelled" /><div><p><span class="mono">{shortId(id)}</span> <a href={url("runners")}>show the runners</a></p></div></li>)}
          </ul>
        </section>
      )}
      <Recent />
    </>
  );
}

function Recent() {
  const { data } = useGet<Page<Summary>>("/executions?limit=8");
  if (!data || data.items.length === 0) return null;
  return (
    <section aria-labelledby="recent">
      <h2 id="recent">Newest executions</h2>
      <ul class="compact">
        {data.items.map((item) => (
          <li key={item.id}><State of={item.status} /> <a href={url(`executions/${item.id}`)}>{item.workflow} <span class="mono">{shortId(item.id)}</span></a> <span class="quiet"><Time at={item.created_at} isRelative /></span></li>
        ))}
      </ul>
    </section>
  );
}

