// The list of executions, with filters in the URL, and actions on selected executions or on all that match.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { get } from "../lib/api.ts";
import { useKeys } from "../lib/keys.ts";
import { go, query, setQuery, url } from "../lib/route.ts";
import { dateOf, duration, grouped, now, startOf, today } from "../lib/time.ts";
import type { Count, Page, Status, Summary, Workflow } from "../lib/types.ts";
import { useGet, useLoad } from "../lib/use.ts";
import { Command, Copy, Empty, ErrorBox, Loading, Time, shortId } from "../parts/basics.tsx";
import { ACTIONS, type Action, ControlDialog, NAMES, may } from "../parts/control.tsx";
import { BulkDialog } from "../parts/bulk.tsx";
import { State } from "../parts/state.tsx";

const STATES: Status[] = ["Pending", "Running", "Paused", "Completed", "Failed", "Cancelled"];
const SPANS = [["", "any time"], ["1h", "last hour"], ["24h", "last 24 h"], ["7d", "last 7 days"], ["30d", "last 30 days"]] as const;
/** Days that can be chosen by name, each with the number of days before today. */
const DAYS = [["today", 0], ["yesterday", 1]] as const;
/** The query parameters that limit the time of submission. */
const PERIOD = ["since", "until"];
const FILTERS = ["status", "-status", "workflow", "version", "key", "since", "until", "id", "error", "schedule", "runner", "parent"];

export const FIRST_WORKFLOW = `import cloaca

@cloaca.task()
def extract(context):
    context["rows"] = [1, 2, 3]

@cloaca.task(dependencies=["extract"])
def load(context):
    context["loaded"] = len(context["rows"])

with cloaca.WorkflowBuilder("etl") as builder:
    builder.add_task(extract)
    builder.add_task(load)
`;

/** Returns the active filters as the query of a request, without the filters in `omitted`. */
function filterPath(omitted: readonly string[] = []): string {
  const search = new URLSearchParams();
  for (const name of [...new Set(query.value.keys())]) {
    const isFilter = FILTERS.includes(name) || /^(tag|label|input)\./.test(name);
    if (!isFilter || omitted.includes(name)) continue;
    for (const value of query.value.getAll(name)) search.append(name, value);
  }
  return search.toString();
}

function activeFilters(): [string, string][] {
  return [...query.value].filter(([name, value]) => value !== "" && (FILTERS.includes(name) || /^(tag|label|input)\./.test(name)));
}

function drop(name: string, value: string): void {
  setQuery({ [name]: query.value.getAll(name).filter((other) => other !== value), cursor: null });
}

/** Returns the date that the filter selects; null if the filter selects another period, or none. */
function chosenDate(): string | null {
  const since = query.value.get("since");
  if (!since || !Number.isFinite(Date.parse(since))) return null;
  const date = dateOf(new Date(since));
  return startOf(date) === since && startOf(date, 1) === query.value.get("until") ? date : null;
}

const chooseDate = (date: string) => setQuery({ since: startOf(date), until: startOf(date, 1), cursor: null });

/** A choice of the period in which the executions were submitted: a span before now, a named day, or any day. */
function Submitted() {
  // The period that was active when the user chose to pick a day. After any other change of the period, for example when its
  // chip is removed, the user is no longer picking a day.
  const [picking, setPicking] = useState<string | null>(null);
  const period = PERIOD.map((name) => query.value.get(name) ?? "").join(" ");
  const since = query.value.get("since") ?? "";
  const isSpan = !query.value.has("until") && SPANS.some(([span]) => span === since);
  const date = chosenDate();
  const named = DAYS.find(([, earlier]) => today(earlier) === date)?.[0];
  const value = picking === period ? "day" : isSpan ? since : date === null ? "other" : (named ?? "day");
  return (
    <>
      <label>
        <span>Submitted</span>
        <select value={value} onChange={(event) => {
          const { value: chosen } = event.currentTarget;
          const day = DAYS.find(([name]) => name === chosen);
          if (day) chooseDate(today(day[1]));
          else if (chosen !== "day") setQuery({ since: chosen, until: null, cursor: null });
          else if (date === null) setQuery({ since: null, until: null, cursor: null });
          setPicking(chosen !== "day" ? null : date === null ? " " : period);
        }}>
          {SPANS.map(([span, text]) => <option key={span} value={span}>{text}</option>)}
          {DAYS.map(([name]) => <option key={name} value={name}>{name}</option>)}
          <option value="day">on a day…</option>
          {value === "other" && <option value="other" disabled>another period</option>}
        </select>
      </label>
      {value === "day" && (
        <label>
          <span>Day</span>
          <input type="date" value={date ?? ""} max={today()} onInput={(event) => {
            // While a date is typed, it can have a year like 0002.
            const { value: chosen } = event.currentTarget;
            if (chosen < "1970") return;
            chooseDate(chosen);
            setPicking(`${startOf(chosen)} ${startOf(chosen, 1)}`);
          }} />
        </label>
      )}
    </>
  );
}

/** Returns the filters in the form that the API's bulk route expects. */
function bulkFilter(): Record<string, string[]> {
  const filter: Record<string, string[]> = {};
  for (const [name, value] of activeFilters()) (filter[name] ??= []).push(value);
  return filter;
}

/** Interprets a text in the filter field: `name = value`, the beginning of an id, or a part of the error. */
export function filterOf(text: string): [string, string] | null {
  const wanted = text.trim();
  if (!wanted) return null;
  const [, name = "", value = ""] = /^([^=\s]+)\s*=\s*(.+)$/.exec(wanted) ?? [];
  if (FILTERS.includes(name) || /^(tag|label|input)\../.test(name)) return [name, value];
  return /^[0-9a-f]{6,8}(-[0-9a-f-]*)?$/i.test(wanted) ? ["id", wanted] : ["error", wanted];
}

/** Returns a count as text: "≥ 10,000" if the count is a minimum. */
const amount = (count: Count | undefined) => (count ? `${count.kind === "at_least" ? "≥ " : ""}${grouped(count.value)}` : undefined);

function StateChips() {
  const wanted = query.value.getAll("status");
  // The counts cover all executions, so they are hidden if a filter other than `status` is active.
  const isOnlyFilter = activeFilters().every(([name]) => name === "status");
  const { data } = useGet<{ states: Partial<Record<Status, Count>> }>(isOnlyFilter ? "/counts" : null);
  return (
    <div class="chips" role="group" aria-label="States">
      {STATES.map((state) => {
        const isOn = wanted.includes(state);
        return (
          <button type="button" key={state} class="chip" aria-pressed={isOn}
            onClick={() => setQuery({ status: isOn ? wanted.filter((other) => other !== state) : [...wanted, state], cursor: null })}>
            <State of={state} note={isOnlyFilter ? amount(data?.states[state]) : undefined} />
          </button>
        );
      })}
    </div>
  );
}

function Filters() {
  const { data } = useGet<Page<Workflow>>("/workflows");
  const [key, setKey] = useState(query.value.get("key") ?? "");
  const [more, setMore] = useState("");
  return (
    <form class="filters" role="search" aria-label="Filter executions" onSubmit={(event) => {
      event.preventDefault();
      const added = filterOf(more);
      setMore("");
      setQuery({ key: key.trim() || null, cursor: null, ...(added && { [added[0]]: [...query.value.getAll(added[0]), added[1]] }) });
      // The focus leaves the field, so that the keyboard shortcuts of the list work again.
      document.querySelector<HTMLElement>("main")?.focus({ preventScroll: true });
    }}>
      <label>
        <span>Workflow</span>
        <select value={query.value.get("workflow") ?? ""} onChange={(event) => setQuery({ workflow: event.currentTarget.value, cursor: null })}>
          <option value="">all</option>
          {data?.items.map(({ name }) => <option key={name} value={name}>{name}</option>)}
        </select>
      </label>
      <Submitted />
      <label>
        <span>Key</span>
        <input value={key} placeholder="the whole key" onInput={(event) => setKey(event.currentTarget.value)}
          onBlur={() => key.trim() !== (query.value.get("key") ?? "") && setQuery({ key: key.trim() || null, cursor: null })} />
      </label>
      <label>
        <span>Error, id, or name = value</span>
        <input data-filter class="filter-text" value={more} placeholder="timeout, or label.order = 4711" title="A part of the error, the beginning of an id, or a filter like label.order = 4711, input.user.id = 7, tag.team = data"
          onInput={(event) => setMore(event.currentTarget.value)} />
      </label>
      <button type="submit" class="hidden" tabIndex={-1}>Apply the filters</button>
      <StateChips />
    </form>
  );
}

/** Says how far back an incomplete search has looked, and has a button to continue the search. */
function Scanned({ page }: { page: Page<Summary> }) {
  if (!page.scanned_until) return null;
  return (
    <p class="quiet scanned" role="status">
      Searched back to <Time at={page.scanned_until} />{page.scanned ? `: ${grouped(page.scanned)} executions` : ""}.{" "}
      {page.next && <button type="button" class="small" onClick={() => setQuery({ cursor: page.next })}>Search further back</button>}
    </p>
  );
}

/** For each active filter, says how many executions match without it, and has a button to drop it. */
function NoMatch() {
  const filters = activeFilters();
  const { data } = useLoad(filterPath(), async (signal) => {
    const found: [string[], string, number, boolean][] = [];
    const date = chosenDate();
    const groups = [...new Set(filters.map(([name]) => name))].filter((name) => date === null || !PERIOD.includes(name)).map((name) => [name]);
    for (const names of date === null ? groups : [...groups, PERIOD]) {
      const page = await get<Page<Summary>>(`/executions?${filterPath(names)}&limit=50`, signal);
      const text = names === PERIOD ? `submitted on ${date}` : `${names[0]} = ${query.value.getAll(names[0] ?? "").join(", ")}`;
      found.push([names, text, page.items.length, page.next !== null]);
    }
    return found;
  });
  return (
    <Empty title="No execution matches">
      <ul class="plain-list">
        {data?.map(([names, text, count, more]) => (
          <li key={text}>
            Without <code>{text}</code>: {count}{more ? " or more" : ""}{" "}
            <button type="button" onClick={() => setQuery({ ...Object.fromEntries(names.map((name) => [name, null])), cursor: null })}>Drop it</button>
          </li>
        ))}
      </ul>
      <p><button type="button" onClick={() => go(url("executions"))}>Show all executions</button></p>
    </Empty>
  );
}

export function NoExecutions() {
  return (
    <Empty title="No executions yet">
      <p>Define a workflow in a file, for example <code>etl.py</code>:</p>
      <pre class="code" tabIndex={0}>{FIRST_WORKFLOW}</pre>
      <p>Run it on this database; it appears here at once:</p>
      <Command text="cloaca run etl.py:etl" />
    </Empty>
  );
}

export function elapsed(execution: Summary): string {
  if (execution.duration_us !== null) return duration(execution.duration_us);
  if (execution.started_at === null) return "";
  return duration(Math.max(0, (now.value - Date.parse(execution.started_at)) * 1000));
}

/**
 * Loads a page of the list, and keeps its rows in place while the database changes. `waiting` is the number of new rows that
 * are not shown yet.
 */
function useHeldList(path: string) {
  const loaded = useGet<Page<Summary>>(path);
  const [held, setHeld] = useState<{ path: string; page: Page<Summary> } | null>(null);
  const { data } = loaded;
  useEffect(() => {
    if (!data || loaded.isLoading) return;
    setHeld((before) => {
      if (before === null || before.path !== path || before.page.items.length === 0) return { path, page: data };
      // Rows are updated in place and do not move. New rows are shown only when the user asks for them.
      const fresh = new Map(data.items.map((item) => [item.id, item]));
      const items = before.page.items.map((item) => fresh.get(item.id) ?? item);
      return { path, page: { ...before.page, items } };
    });
  }, [data, path, loaded.isLoading]);
  const shown = held?.page ?? data;
  const known = new Set(shown?.items.map((item) => item.id));
  const waiting = held?.path === path ? (data?.items.filter((item) => !known.has(item.id)).length ?? 0) : 0;
  return { ...loaded, shown, waiting, show: () => data && setHeld({ path, page: data }) };
}

export function ExecutionsPage() {
  const filter = filterPath();
  const cursor = query.value.get("cursor");
  const path = `/executions?${filter}${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}&limit=50`;
  const { shown, waiting, show, error, reload } = useHeldList(path);
  const [selected, setSelected] = useState<Map<string, Summary>>(new Map());
  const [at, setAt] = useState(-1);
  const [bulk, setBulk] = useState<{ action: Action; items: Summary[] } | null>(null);
  const [matching, setMatching] = useState<Action | null>(null);
  const anchor = useRef(-1);
  const items = shown?.items ?? [];

  useEffect(() => {
    setSelected(new Map());
    setAt(-1);
  }, [path]);
  // Not `useEffect`, which runs some time later: it would move the focus, and with it `at`, back to a row that the user has left
  // with another key meanwhile.
  useLayoutEffect(() => {
    if (at >= 0) document.querySelector<HTMLElement>(`[data-row="${at}"] a`)?.focus();
  }, [at]);

  const toggle = (index: number, isRange = false) => {
    const next = new Map(selected);
    const [from, to] = isRange && anchor.current >= 0 ? [Math.min(anchor.current, index), Math.max(anchor.current, index)] : [index, index];
    const isOn = isRange || !next.has(items[index]?.id ?? "");
    for (const item of items.slice(from, to + 1)) {
      if (isOn) next.set(item.id, item);
      else next.delete(item.id);
    }
    anchor.current = index;
    setSelected(next);
  };
  const move = (step: number) => setAt((before) => Math.max(0, Math.min(items.length - 1, before + step)));
  useKeys({
    j: () => move(1),
    k: () => move(-1),
    x: () => at >= 0 && toggle(at),
    X: () => at >= 0 && toggle(at, true),
    Enter: () => items[at] && go(url(`executions/${items[at].id}`)),
    ".": () => document.querySelector<HTMLElement>(".bulk button")?.focus(),
    Escape: () => setSelected(new Map()),
  });

  const date = chosenDate();
  const chips = activeFilters().filter(([name]) => name !== "status" && (date === null || !PERIOD.includes(name)));
  const isAll = items.length > 0 && items.every((item) => selected.has(item.id));
  return (
    <>
      <div class="title-line">
        <h1>Executions</h1>
        {waiting > 0 && <button type="button" class="primary small" onClick={show}>{waiting} new</button>}
      </div>
      <Filters />
      {(chips.length > 0 || date !== null) && (
        <ul class="chips" aria-label="Active filters">
          {date !== null && (
            <li>
              <button type="button" class="chip" title="Drop this filter" onClick={() => setQuery({ since: null, until: null, cursor: null })}>submitted on {date} <span aria-hidden="true">×</span></button>
            </li>
          )}
          {chips.map(([name, value]) => (
            <li key={name + value}>
              <button type="button" class="chip" title="Drop this filter" onClick={() => drop(name, value)}>{name} = {value} <span aria-hidden="true">×</span></button>
            </li>
          ))}
        </ul>
      )}
      {error && <ErrorBox error={error} retry={reload} />}
      {!shown && !error && <Loading />}
      {shown && items.length === 0 && (shown.scanned_until
        ? <Empty title="Nothing found so far"><p>No index covers these filters, so each request searches a limited number of executions.</p><Scanned page={shown} /></Empty>
        : activeFilters().length ? <NoMatch /> : <NoExecutions />)}
      {items.length > 0 && (
        <>
          <div class="bulk" role="toolbar" aria-label="Actions on the selection">
            {selected.size > 0 ? (
              <>
                <span><strong>{selected.size}</strong> selected</span>
                {may("control") && NAMES.map((action) => (
                  <button type="button" key={action} class={action === "cancel" ? "danger" : ""}
                    onClick={() => setBulk({ action, items: [...selected.values()] })}>{ACTIONS[action].title}…</button>
                ))}
                {selected.size === 2 && (
                  <a class="button" href={url("compare", { a: [...selected.keys()][1], b: [...selected.keys()][0] })}>Compare</a>
                )}
                <button type="button" class="plain" onClick={() => setSelected(new Map())}>Clear</button>
              </>
            ) : (
              <>
                <span class="quiet">Select rows to act on them{may("control") ? ", or act on all that match:" : "."}</span>
                {may("control") && NAMES.map((action) => (
                  <button type="button" key={action} class="plain" aria-label={`${ACTIONS[action].title}: all that match`}
                    onClick={() => setMatching(action)}>{action === "retry" ? "Retry all failed…" : `${ACTIONS[action].title} all…`}</button>
                ))}
              </>
            )}
          </div>
          <div class="scroll">
            <table class="list blocks runs-list">
              <thead>
                <tr>
                  <th class="check"><input type="checkbox" aria-label="Select all rows" checked={isAll}
                    onChange={() => setSelected(isAll ? new Map() : new Map(items.map((item) => [item.id, item])))} /></th>
                  <th>State</th><th>Workflow</th><th>Execution</th><th>Key, labels</th><th>Submitted</th><th class="number">Duration</th><th class="grow">Error</th>
                </tr>
              </thead>
              <tbody>
                {items.map((item, index) => (
                  <tr key={item.id} data-row={index} class={index === at ? "at" : ""} aria-selected={selected.has(item.id)}
                    onClick={(event) => {
                      if ((event.target as Element).closest("a, button, input") || getSelection()?.toString()) return;
                      go(url(`executions/${item.id}`));
                    }}>
                    <td class="check"><input type="checkbox" aria-label={`Select ${item.workflow} ${shortId(item.id)}`} checked={selected.has(item.id)}
                      onClick={(event) => { event.preventDefault(); toggle(index, event.shiftKey); }} /></td>
                    <td><State of={item.status} /></td>
                    <td>{item.workflow}</td>
                    <td class="nowrap"><a href={url(`executions/${item.id}`)} class="mono" title={item.id} onFocus={() => setAt(index)}>{shortId(item.id)}</a><Copy text={item.id} what="the id" /></td>
                    <td class="nowrap">
                      {item.key && <><span class="mono nowrap">{item.key}</span>{" "}</>}
                      {Object.entries(item.labels ?? {}).slice(0, 3).map(([name, value]) => <a key={name} class="label" href={url("executions", { [`label.${name}`]: value })}>{name} = {value}</a>)}
                    </td>
                    <td class="nowrap"><Time at={item.created_at} /></td>
                    <td class="number nowrap">{elapsed(item)}</td>
                    <td class="grow">{item.error && <span class="error-cell" title={item.error.message}><strong>{item.error.type}</strong> {item.error.message}</span>}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
          {shown && <Scanned page={shown} />}
          <nav class="pager" aria-label="Pages of the list">
            {cursor && <button type="button" onClick={() => (shown?.prev ? setQuery({ cursor: shown.prev }) : history.back())}>Newer</button>}
            {cursor && <button type="button" onClick={() => setQuery({ cursor: null })}>Newest</button>}
            {shown?.next && <button type="button" onClick={() => setQuery({ cursor: shown.next })}>Older</button>}
          </nav>
        </>
      )}
      {matching && <BulkDialog action={matching} filter={bulkFilter()} close={() => setMatching(null)} />}
      {bulk && (
        <ControlDialog action={bulk.action} items={bulk.items} close={() => setBulk(null)}
          done={(failed) => setSelected(new Map([...selected].filter(([id]) => failed.includes(id))))} />
      )}
    </>
  );
}
