// The items of a map: their counts, a list of them, and a dialog that changes how many run at once.
import { useState } from "preact/hooks";
import { ApiError, getText, part, send } from "../lib/api.ts";
import { type Json, Num, isObject, parse } from "../lib/json.ts";
import { notice } from "../lib/live.ts";
import { bytes, duration } from "../lib/time.ts";
import type { MapCounts } from "../lib/types.ts";
import { useLoad } from "../lib/use.ts";
import { Dialog, ErrorBox, Loading, Time, say } from "../parts/basics.tsx";
import { may } from "../parts/control.tsx";
import { Tree } from "../parts/json.tsx";
import { State } from "../parts/state.tsx";

/** Number of items on a page. */
const PAGE = 50;
const STATES = ["Failed", "Running", "Ready", "Pending", "Completed", "Skipped", "Cancelled"] as const;

/** Returns the name under which the page shows an item's state. A ready item waits for another attempt, so its state is shown as Retrying. */
const shownState = (state: string) => (state === "Ready" ? "Retrying" : state);

interface Item {
  index: string;
  status: string;
  attempts: string;
  started: string | null;
  length: number | null;
  error: { type: string; message: string; traceback: string } | null;
  value: Json | undefined;
  size: number;
}

interface ItemPage {
  items: Item[];
  next: string | null;
  prev: string | null;
}

const text = (value: Json | undefined) => (value instanceof Num ? value.text : typeof value === "string" ? value : "");
const optional = (value: Json | undefined) => text(value) || null;

/** Loads a page of items. The numbers in their values keep their digits. */
async function loadItems(path: string, signal: AbortSignal): Promise<ItemPage> {
  const page: Json = parse(await getText(path, signal));
  const fields: { [name: string]: Json } = isObject(page) ? page : {};
  const items = (Array.isArray(fields.items) ? fields.items : []).map((entry) => {
    const item: { [name: string]: Json } = isObject(entry) ? entry : {};
    const error = isObject(item.error) ? item.error : null;
    const length = optional(item.duration_us);
    return {
      index: text(item.index), status: text(item.status), attempts: text(item.attempts), started: optional(item.started_at),
      length: length === null ? null : Number(length), size: Number(text(item.value_bytes)),
      error: error && { type: text(error.type), message: text(error.message), traceback: text(error.traceback) },
      // A null value with a size of 4 bytes is the result `null`. Otherwise null means that the value was not sent.
      value: item.value_bytes === null || (item.value === null && text(item.value_bytes) !== "4") ? undefined : item.value,
    };
  });
  return { items, next: optional(fields.next), prev: optional(fields.prev) };
}

/** The number of items in each state, as a bar and as text. */
export function ItemCounts({ map }: { map: MapCounts }) {
  const parts = STATES.map((state) => [state, map.states[state] ?? 0] as const).filter(([, count]) => count > 0);
  let left = 0;
  return (
    <div class="counts">
      <svg class="stack" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
        {parts.map(([state, count]) => {
          const x = left;
          left += (count / map.total) * 100;
          return <rect key={state} class={state === "Ready" ? "fill-Waiting" : `fill-${state}`} x={x} y="0" height="6" width={(count / map.total) * 100} />;
        })}
      </svg>
      <ul class="inline" aria-label="Items by state">
        {parts.map(([state, count]) => <li key={state}><State of={shownState(state)} note={count.toLocaleString("en")} /></li>)}
        <li class="quiet">{map.total.toLocaleString("en")} items, {map.parallel === null ? "no limit on running items" : `at most ${map.parallel.toLocaleString("en")} at once`}</li>
      </ul>
    </div>
  );
}

/** A dialog that changes the maximum number of items that run at once. */
export function ParallelDialog({ path, map, close }: { path: string; map: MapCounts; close: () => void }) {
  const [given, setGiven] = useState(map.parallel === null ? "" : String(map.parallel));
  const [error, setError] = useState<ApiError | null>(null);
  const [isBusy, setBusy] = useState(false);
  const isWrong = given !== "" && !/^[1-9]\d{0,8}$/.test(given);
  async function act(): Promise<void> {
    setBusy(true);
    setError(null);
    try {
      await send("PATCH", `${path}/map`, { parallel: given === "" ? null : Number(given) });
      say(given === "" ? "The map no longer has a limit." : `At most ${given} items run at once.`);
      notice();
      close();
    } catch (problem) {
      setError(problem instanceof ApiError ? problem : new ApiError({ code: "page", title: "error", status: 0, detail: String(problem) }));
      setBusy(false);
    }
  }
  return (
    <Dialog title="Items at once" close={close}>
      <form class="form" onSubmit={(event) => { event.preventDefault(); void act(); }}>
        <label for="map-parallel"><span>Maximum number of items that run at once on all runners; empty for no limit</span>
          <input id="map-parallel" inputMode="numeric" value={given} aria-invalid={isWrong} onInput={(event) => setGiven(event.currentTarget.value.trim())} />
        </label>
        <p class="error-text" role="status">{isWrong ? "The limit must be a whole number of at least 1." : ""}</p>
        {error && <ErrorBox error={error} />}
        <footer>
          <button type="button" onClick={close}>Keep as it is</button>
          <button type="submit" class="primary" disabled={isBusy || isWrong}>Change</button>
        </footer>
      </form>
    </Dialog>
  );
}

function ItemRow({ item }: { item: Item }) {
  const [isOpen, setOpen] = useState(false);
  const { error, value } = item;
  const hasMore = error !== null || value !== undefined;
  return (
    <>
      <tr>
        <td class="number">{item.index}</td>
        <td><State of={shownState(item.status)} /></td>
        <td class="number">{item.attempts}</td>
        <td class="nowrap"><Time at={item.started} /> <span class="quiet">{item.length !== null && duration(item.length)}</span></td>
        <td class="grow">
          {error && <span class="error-cell" title={error.message}><strong>{error.type}</strong> {error.message}</span>}
          {!error && item.size > 0 && value === undefined && <span class="quiet">{bytes(item.size)}, not shown</span>}
          {hasMore && <> <button type="button" class="plain small" aria-expanded={isOpen} aria-label={`${isOpen ? "Hide" : "Show"} ${error ? "the error" : "the result"} of item ${item.index}`} onClick={() => setOpen(!isOpen)}>{isOpen ? "Hide" : error ? "Error" : `Result (${bytes(item.size)})`}</button></>}
        </td>
      </tr>
      {isOpen && (
        <tr>
          <td colSpan={5}>
            {error && <p class="error-text"><strong>{error.type}</strong> {error.message}</p>}
            {error?.traceback && <pre class="code" tabIndex={0}>{error.traceback.trimEnd()}</pre>}
            {!error && value !== undefined && <Tree value={value} />}
          </td>
        </tr>
      )}
    </>
  );
}

/** The items of a map, page by page, with a filter by state. */
export function Items({ path, map, isOpen }: { path: string; map: MapCounts; isOpen: boolean }) {
  const [status, setStatus] = useState("");
  const [cursor, setCursor] = useState<string | null>(null);
  const [sets, setSets] = useState(false);
  const query = `limit=${PAGE}${status ? `&status=${status}` : ""}${cursor === null ? "" : `&cursor=${part(cursor)}`}`;
  const { data, error } = useLoad(`items ${path} ${query}`, (signal) => loadItems(`${path}/items?${query}`, signal));
  return (
    <section aria-label="Items">
      <div class="filters">
        <label for="item-status"><span>State</span>
          <select id="item-status" value={status} onChange={(event) => { setStatus(event.currentTarget.value); setCursor(null); }}>
            <option value="">All</option>
            {STATES.map((state) => <option key={state} value={state}>{shownState(state)}{map.states[state] ? ` (${map.states[state]})` : ""}</option>)}
          </select>
        </label>
        {isOpen && may("control") && <button type="button" onClick={() => setSets(true)}>Items at once…</button>}
      </div>
      {error && <ErrorBox error={error} />}
      {!error && !data && <Loading />}
      {data && data.items.length === 0 && <p class="quiet">{status ? `No item is ${shownState(status)}.` : "No items."}</p>}
      {data && data.items.length > 0 && (
        <div class="scroll" role="region" aria-label="Table of items" tabIndex={0}>
          <table class="list">
            <thead><tr><th scope="col" class="number">Item</th><th scope="col">State</th><th scope="col" class="number">Attempts</th><th scope="col">Started</th><th scope="col">Result</th></tr></thead>
            <tbody>{data.items.map((item) => <ItemRow key={item.index} item={item} />)}</tbody>
          </table>
        </div>
      )}
      {data && (data.prev || data.next) && (
        <nav class="pager" aria-label="Pages of the items">
          {data.prev && <button type="button" onClick={() => setCursor(data.prev)}>Previous</button>}
          {data.next && <button type="button" onClick={() => setCursor(data.next)}>Next</button>}
        </nav>
      )}
      {sets && <ParallelDialog path={path} map={map} close={() => setSets(false)} />}
    </section>
  );
}
