// The pages of the runners, the tenants and the database.
import { useState } from "preact/hooks";
import { ApiError, send } from "../lib/api.ts";
import { explainRunning } from "../lib/held.ts";
import { meta } from "../lib/meta.ts";
import { url } from "../lib/route.ts";
import { bytes, now } from "../lib/time.ts";
import type { Pruned, Tenant } from "../lib/schema.ts";
import type { Database, Page, Runner } from "../lib/types.ts";
import { useGet, useLoad } from "../lib/use.ts";
import { Command, Copy, Dialog, Empty, ErrorBox, Loading, Time, say, shortId } from "../parts/basics.tsx";
import { may } from "../parts/control.tsx";
import { Mark } from "../parts/state.tsx";

export function RunnersPage() {
  const { data, error, reload } = useGet<Page<Runner>>("/runners");
  const open = useLoad("held", explainRunning);
  const held = new Map<string, { id: string; task: string; until: string | null }[]>();
  for (const { execution, reasons } of open.data ?? []) {
    for (const { runner, task, code, until } of reasons) {
      if (runner && task && /^held|^claimed/.test(code)) held.set(runner, [...(held.get(runner) ?? []), { id: execution.id, task, until }]);
    }
  }
  const sorted = [...(data?.items ?? [])].sort((left, right) => Number(right.is_alive) - Number(left.is_alive));
  return (
    <>
      <h1>Runners</h1>
      {error && <ErrorBox error={error} retry={reload} />}
      {!data && !error && <Loading />}
      {data?.items.length === 0 && (
        <Empty title="No runner is alive">
          <p>Tasks run only while a runner is alive. Start a runner with the file that defines the workflows:</p>
          <Command text="cloaca worker FILE.py" />
        </Empty>
      )}
      <ul class="items">
        {sorted.map((runner) => {
          const tasks = held.get(runner.id) ?? [];
          return (
            <li class="item" key={runner.id}>
              <Mark of={runner.is_alive ? "Completed" : "Failed"} />
              <div>
                <p><strong>{runner.host}</strong> · pid {runner.pid} · {runner.is_alive ? "alive" : "gone"} <span class="mono quiet" title={runner.id}>{shortId(runner.id)}</span><Copy text={runner.id} what="the id of the runner" /></p>
                <p class="quiet">
                  started <Time at={runner.started_at} isRelative /> · last heartbeat <Time at={runner.heartbeat_at} isRelative /> · lease {Date.parse(runner.lease_until) > now.value ? <>ends <Time at={runner.lease_until} isRelative /></> : <>ended <Time at={runner.lease_until} isRelative /></>}
                </p>
                {runner.workflows.length > 0 && <p class="quiet">workflows: {runner.workflows.slice(0, 12).map((name) => <span key={name}><a href={url(`workflows/${encodeURIComponent(name)}`)}>{name}</a> </span>)}{runner.workflows.length > 12 && `and ${runner.workflows.length - 12} more`}</p>}
                {tasks.length > 0 && <p>claimed tasks: {tasks.slice(0, 8).map(({ id, task, until }, index) => <span key={id + task}>{index > 0 && ", "}<a href={url(`executions/${id}`, {}, `task=${encodeURIComponent(task)}`)}>{task}</a>{until && !runner.is_alive && <span class="quiet"> until <Time at={until} /></span>}</span>)}{tasks.length > 8 && ` and ${tasks.length - 8} more`}{!runner.is_alive && "; another runner rescues these tasks when the lease has ended"}</p>}
              </div>
            </li>
          );
        })}
      </ul>
    </>
  );
}

export function TenantsPage() {
  const { data, error } = useGet<Page<Tenant>>("/tenants");
  return (
    <>
      <h1>Tenants</h1>
      {error && <ErrorBox error={error} />}
      {!data && !error && <Loading />}
      {data?.items.length === 0 && <Empty title="No tenants"><p>No tenant has been created in this database. Each tenant has its own PostgreSQL schema and role:</p><pre class="code" tabIndex={0}>{'cloaca.DatabaseAdmin(url).create_tenant("acme")'}</pre></Empty>}
      {data && data.items.length > 0 && (
        <div class="scroll"><table class="list"><thead><tr><th>Schema</th><th class="grow">Role</th></tr></thead>
          <tbody>{data.items.map(({ schema, username }) => <tr key={schema}><td><a href={url("", { tenant: schema })}>{schema}</a></td><td class="grow">{username ?? "–"}</td></tr>)}</tbody></table></div>
      )}
    </>
  );
}

function Prune({ close }: { close: () => void }) {
  const [days, setDays] = useState("30");
  const [error, setError] = useState<ApiError | null>(null);
  const run = async () => {
    setError(null);
    try {
      const answer = await send<Pruned>("POST", "/database/prune", { older_than: `${Number(days)}d` });
      say(`${answer.deleted} ${answer.deleted === 1 ? "execution was" : "executions were"} deleted.${answer.more ? " More can be deleted: delete again." : ""}`);
      close();
    } catch (problem) {
      setError(problem instanceof ApiError ? problem : null);
    }
  };
  return (
    <Dialog title="Delete ended executions" close={close}>
      <label for="days"><span>Ended more than this many days ago</span> <input id="days" inputMode="numeric" value={days} onInput={(event) => setDays(event.currentTarget.value)} /></label>
      {error && <ErrorBox error={error} />}
      <footer><button type="button" onClick={close}>Close</button><button type="button" class="danger" disabled={!(Number(days) >= 0) || days.trim() === ""} onClick={() => void run()}>Delete</button></footer>
    </Dialog>
  );
}

export function DatabasePage() {
  const { data, error, reload } = useGet<Database>("/database", false);
  const [asks, setAsks] = useState(false);
  return (
    <>
      <div class="title-line">
        <h1>Database</h1>
        <div class="actions"><button type="button" onClick={reload}>Check again</button>{may("delete") && <button type="button" class="danger" onClick={() => setAsks(true)}>Delete old executions…</button>}</div>
      </div>
      {error && <ErrorBox error={error} retry={reload} />}
      {!data && !error && <Loading what="The whole database is being checked. A million executions take some seconds…" />}
      {data && (
        <>
          <dl class="facts">
            <div><dt>Location</dt><dd class="mono">{data.location}</dd></div>
            <div><dt>Kind</dt><dd>{data.backend}</dd></div>
            <div><dt>Size</dt><dd>{bytes(data.size_bytes)}</dd></div>
            <div><dt>Unused</dt><dd>{bytes(data.free_bytes)}</dd></div>
            <div><dt>Schema</dt><dd>version {Number(data.schema_version)}</dd></div>
            <div><dt>Server</dt><dd>cloaca {meta.value?.version}</dd></div>
          </dl>
          <p class="quiet">Runners delete executions that ended longer ago than their setting <code>retention</code>, which is 30 days unless the program changes it.</p>
          {data.problems.length === 0
            ? <p><Mark of="Completed" /> The check found no problem.</p>
            : <div class="box bad" role="alert"><strong>Problems</strong><ul>{data.problems.map((text) => <li key={text}>{text}</li>)}</ul></div>}
          {data.advice.length > 0 && <div class="box"><strong>Advice</strong><ul>{data.advice.map((text) => <li key={text}>{text}</li>)}</ul></div>}
        </>
      )}
      {asks && <Prune close={() => setAsks(false)} />}
    </>
  );
}

