// The tree of the executions that an execution's tasks have started.
import { useState } from "preact/hooks";
import { taskLink, url } from "../lib/route.ts";
import type { Child, Page } from "../lib/types.ts";
import { useGet } from "../lib/use.ts";
import { Empty, ErrorBox, Loading, Time, shortId } from "../parts/basics.tsx";
import { State } from "../parts/state.tsx";
import { elapsed } from "./executions.tsx";

/** Executions at this depth or deeper do not show their children at first. */
const OPEN_DEPTH = 1;

function ChildItem({ child, depth }: { child: Child; depth: number }) {
  const [isOpen, setOpen] = useState(depth < OPEN_DEPTH);
  return (
    <li>
      <p class="child">
        <button type="button" class="plain" aria-expanded={isOpen} aria-label={`Children of ${child.workflow} ${shortId(child.id)}`} onClick={() => setOpen(!isOpen)}><span aria-hidden="true">{isOpen ? "▾" : "▸"}</span></button>
        <State of={child.status} />
        <a href={url(`executions/${child.id}`)}>{child.workflow} <span class="mono">{shortId(child.id)}</span></a>
        <span class="quiet">{depth === 0 ? <>task <a href={taskLink(child.task ?? "")}>{child.task}</a></> : <>task {child.task}</>}{(child.generation ?? 1) > 1 && `, child ${child.generation}`} · <Time at={child.created_at} /> {elapsed(child)}</span>
        {child.error && <span class="error-cell" title={child.error.message}><strong>{child.error.type}</strong> {child.error.message}</span>}
      </p>
      {isOpen && <Children id={child.id} depth={depth + 1} />}
    </li>
  );
}

export function Children({ id, depth = 0, task }: { id: string; depth?: number; task?: string }) {
  const [cursors, setCursors] = useState<string[]>([]);
  const cursor = cursors.at(-1);
  const { data, error } = useGet<Page<Child>>(`/executions/${encodeURIComponent(id)}/children?limit=100${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
  if (error) return <ErrorBox error={error} />;
  if (!data) return <Loading />;
  const items = data.items.filter((child) => task === undefined || child.task === task);
  const isWhole = !data.next && cursors.length === 0;
  if (items.length === 0 && isWhole) {
    if (depth > 0) return <p class="quiet child-none">It has no children.</p>;
    if (task !== undefined) return <p class="quiet">It has not started a child.</p>;
    return (
      <Empty title="No children">
        <p>A task that runs another workflow starts a child:</p>
        <pre class="code" tabIndex={0}>{'cloaca.child("invoice", workflow="invoice", dependencies=[approve])'}</pre>
      </Empty>
    );
  }
  return (
    <>
      <ul class="tree" aria-label={depth === 0 ? "Children" : undefined}>{items.map((child) => <ChildItem key={child.id} child={child} depth={depth} />)}</ul>
      {items.length === 0 && <p class="quiet">No child of this task is on this page.</p>}
      {!isWhole && (
        <nav class="pager" aria-label="Pages of the children">
          {cursors.length > 0 && <button type="button" onClick={() => setCursors(cursors.slice(0, -1))}>Newer</button>}
          {data.next && <button type="button" onClick={() => setCursors([...cursors, data.next ?? ""])}>Older</button>}
        </nav>
      )}
    </>
  );
}
