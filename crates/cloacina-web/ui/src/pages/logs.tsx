// The log lines of an execution or of one of its tasks.
import { useState } from "preact/hooks";
import { getAll } from "../lib/api.ts";
import { exact, grouped, precise } from "../lib/time.ts";
import type { LogLine } from "../lib/types.ts";
import { useLoad } from "../lib/use.ts";
import { Empty, ErrorBox, Loading, Rows, rowHeight } from "../parts/basics.tsx";

/** Maximum number of log lines that are loaded. */
const MAX_LINES = 20_000;
const LEVELS = [["0", "all levels"], ["20", "info and above"], ["30", "warnings and above"], ["40", "errors"]] as const;
const LINK = /(https?:\/\/[^\s"'<>]+)/;

function Linked({ text }: { text: string }) {
  return <>{text.split(LINK).map((piece, index) => (index % 2 ? <a key={index} href={piece} target="_blank" rel="noopener noreferrer">{piece}</a> : piece))}</>;
}

export function LogList({ path, label, filter = "" }: { path: string; label: string; filter?: string }) {
  const { data, error } = useLoad(path, (signal) => getAll<LogLine>(path, MAX_LINES, signal));
  if (error) return <ErrorBox error={error} />;
  if (!data) return <Loading />;
  if (data.length === 0 && filter) return <Empty title="No log lines"><p>No line {filter}.</p></Empty>;
  if (data.length === 0) {
    return <Empty title="No log lines"><p>A task's log lines are stored if its runner captures them:</p><pre class="code" tabIndex={0}>{'config = cloaca.DefaultRunnerConfig(capture_logs=True)\nrunner = cloaca.DefaultRunner.with_config(url, config)'}</pre></Empty>;
  }
  return (
    <>
      {data.length >= MAX_LINES && <p class="quiet">Only the first {grouped(MAX_LINES)} lines are shown. Filter the lines to see later ones.</p>}
      <Rows count={data.length} height={rowHeight(22, 42)} label={label} render={(index) => {
        const line = data[index];
        if (!line) return null;
        return (
          <div class={`log level-${Math.min(50, Math.floor(line.level / 10) * 10)}`}>
            <time dateTime={line.time} title={precise(line.time)}>{exact(line.time)}</time>
            <span class="log-level">{line.level_name}</span>
            <span class="log-task">{line.task}{line.attempt > 1 ? ` #${line.attempt}` : ""}</span>
            <span class="log-text" title={line.message}><Linked text={line.message} /></span>
          </div>
        );
      }} />
    </>
  );
}

export function LogsTab({ id, task }: { id: string; task: string | null }) {
  const [level, setLevel] = useState("0");
  const [text, setText] = useState("");
  const [isAll, setAll] = useState(false);
  const search = new URLSearchParams({ limit: "1000" });
  if (level !== "0") search.set("level", level);
  if (text.trim()) search.set("q", text.trim());
  if (task && !isAll) search.set("task", task);
  const filters = [task && !isAll && `belongs to task '${task}'`, level !== "0" && "has the selected level", text.trim() && "contains the text"].filter(Boolean);
  return (
    <>
      <form class="filters" role="search" aria-label="Filter log lines" onSubmit={(event) => event.preventDefault()}>
        <label><span>Text</span><input data-filter type="search" value={text} onInput={(event) => setText(event.currentTarget.value)} /></label>
        <label><span>Level</span><select value={level} onChange={(event) => setLevel(event.currentTarget.value)}>{LEVELS.map(([value, title]) => <option key={value} value={value}>{title}</option>)}</select></label>
        {task && <label class="box-label"><input type="checkbox" checked={isAll} onChange={(event) => setAll(event.currentTarget.checked)} /> <span>lines of other tasks too</span></label>}
      </form>
      <LogList path={`/executions/${id}/logs?${search}`} label="Log lines" filter={filters.join(" and ")} />
    </>
  );
}
