// The command palette (Ctrl-K), which finds pages, workflows, executions and settings. Also the list of keyboard shortcuts.
import { useEffect, useMemo, useState } from "preact/hooks";
import { get } from "../lib/api.ts";
import { go, parts, url } from "../lib/route.ts";
import { theme, zone } from "../lib/settings.ts";
import type { Page, Summary, Workflow } from "../lib/types.ts";
import { useGet } from "../lib/use.ts";
import { Dialog, shortId } from "./basics.tsx";
import { isPaused } from "../lib/live.ts";

interface Entry {
  title: string;
  note: string;
  act: () => void;
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

export function Palette({ close, help }: { close: () => void; help: () => void }) {
  const [text, setText] = useState("");
  const [chosen, setChosen] = useState(0);
  const [byKey, setByKey] = useState<Summary[]>([]);
  const { data } = useGet<Page<Workflow>>("/workflows", false);
  const recent = useGet<Page<Summary>>("/executions?limit=20", false);

  useEffect(() => {
    setByKey([]);
    if (text.trim().length < 2) return;
    const timer = setTimeout(() => {
      get<Page<Summary>>(`/executions?key=${encodeURIComponent(text.trim())}&limit=5`)
        .then((page) => setByKey(page.items), () => setByKey([]));
    }, 200);
    return () => clearTimeout(timer);
  }, [text]);

  const entries = useMemo(() => {
    const to = (path: string) => () => go(url(path));
    const all: Entry[] = [
      ["Attention", ""], ["Executions", "executions"], ["Workflows", "workflows"], ["Schedules", "schedules"],
      ["Waiting", "waiting"], ["Runners", "runners"], ["Database", "database"],
    ].map(([title = "", path = ""]) => ({ title, note: "page", act: to(path) }));
    const [page, id] = parts.value;
    if (page === "executions" && id) {
      for (const tab of ["timeline", "logs", "context", "history", "steps", "children"]) {
        all.push({ title: `Show the ${tab}`, note: "this execution", act: to(`executions/${id}/${tab}`) });
      }
    }
    for (const { name } of data?.items ?? []) {
      const path = `workflows/${encodeURIComponent(name)}`;
      all.push({ title: name, note: "workflow", act: to(path) });
      all.push({ title: `Start ${name}`, note: "action", act: to(`${path}/start`) });
      all.push({ title: `Failed executions of ${name}`, note: "list", act: () => go(url("executions", { workflow: name, status: "Failed" })) });
    }
    all.push({ title: "Switch between light and dark", note: "setting", act: () => (theme.value = theme.value === "dark" ? "light" : "dark") });
    all.push({ title: "Switch between local time and UTC", note: "setting", act: () => (zone.value = zone.value === "utc" ? "local" : "utc") });
    all.push({ title: isPaused.value ? "Follow changes" : "Pause live updates", note: "setting", act: () => (isPaused.value = !isPaused.value) });
    all.push({ title: "Show the keys", note: "help", act: help });
    const wanted = text.trim().toLowerCase();
    const found = all.filter(({ title }) => wanted.split(/\s+/).every((word) => title.toLowerCase().includes(word)));
    const executions = [...byKey, ...(recent.data?.items ?? []).filter((one) => wanted && one.id.includes(wanted))];
    const ids = new Map(executions.map((one) => [one.id, one]));
    for (const { id, workflow, status, key } of ids.values()) {
      found.unshift({ title: `${workflow} ${key ?? shortId(id)}`, note: status, act: to(`executions/${id}`) });
    }
    if (UUID.test(wanted)) found.unshift({ title: `Execution ${wanted}`, note: "id", act: to(`executions/${wanted}`) });
    return found.slice(0, 12);
  }, [text, data, byKey, recent.data]);

  const act = (entry: Entry | undefined) => {
    if (!entry) return;
    close();
    // The entry acts later, because the dialog must first return the focus to the page.
    setTimeout(entry.act);
  };
  return (
    <Dialog title="Search" close={close}>
      <input class="palette" type="text" role="combobox" aria-expanded="true" aria-controls="palette-list" aria-label="Search pages, workflows, executions and actions"
        aria-activedescendant={entries.length ? `palette-${chosen}` : undefined} autocomplete="off" autofocus
        placeholder="A page, a workflow, an execution's id or key…" value={text}
        onInput={(event) => { setText(event.currentTarget.value); setChosen(0); }}
        onKeyDown={(event) => {
          const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
          if (step) {
            event.preventDefault();
            setChosen((chosen + step + entries.length) % Math.max(1, entries.length));
          } else if (event.key === "Enter") {
            event.preventDefault();
            act(entries[chosen]);
          }
        }} />
      <ul class="palette-list" id="palette-list" role="listbox" aria-label="Results">
        {entries.map((entry, index) => (
          <li key={entry.title + entry.note} id={`palette-${index}`} role="option" aria-selected={index === chosen}
            onMouseMove={() => setChosen(index)} onClick={() => act(entry)}>
            <span>{entry.title}</span><span class="quiet">{entry.note}</span>
          </li>
        ))}
      </ul>
      {entries.length === 0 && <p class="quiet">Nothing matches. Executions are found by their complete key or id.</p>}
    </Dialog>
  );
}

const KEYS: [string, string][] = [
  ["Ctrl K", "Search pages, workflows, executions, actions"], ["g h", "Attention"], ["g e", "Executions"], ["g w", "Workflows"],
  ["g s", "Schedules"], ["g q", "Waiting"], ["g r", "Runners"], ["g d", "Database"], ["/", "Filter the list"],
  ["j k", "Next and previous row"], ["Enter", "Open the row"], ["x", "Select the row"], ["X", "Select all rows up to this row"],
  [".", "Actions"], ["e", "Why the execution is not done"], ["d t l h", "Graph, timeline, logs, history"], ["r", "Run again with this input"],
  ["[ ]", "Newer and older execution"], ["c", "Copy the id"], ["f", "Fit the graph"], ["+ −", "Zoom the graph, if it has the focus"], ["← ↑ → ↓", "Next task, if the graph has the focus"], ["p", "Pause live updates"], ["T", "Light or dark"], ["?", "These keys"], ["Esc", "Close"],
];

export function Help({ close }: { close: () => void }) {
  return (
    <Dialog title="Keys" close={close}>
      <dl class="keys">
        {KEYS.map(([key, text]) => <div key={key}><dt><kbd>{key}</kbd></dt><dd>{text}</dd></div>)}
      </dl>
      <p class="quiet">Single-key shortcuts can be switched off in the settings. No key changes the database without asking first.</p>
    </Dialog>
  );
}
