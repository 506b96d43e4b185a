// Hooks that load data from the API, and load the data again after changes.
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, get } from "./api.ts";
import { changes } from "./live.ts";

export interface Loaded<T> {
  data: T | undefined;
  error: ApiError | undefined;
  isLoading: boolean;
  reload: () => void;
}

/** A load in progress. It is repeated if `isStale` is set while it runs. */
interface Running<T> {
  key: string;
  load: (signal: AbortSignal) => Promise<T>;
  abort: AbortController;
  isStale: boolean;
}

/**
 * Loads data with a function. Loads the data again when `key` changes and, if `isLive`, when the database changes. If `key`
 * is null, nothing is loaded.
 *
 * A change of the database does not abort a running load of the same key: the load ends, its data is shown, and then the
 * load is repeated once. Otherwise a page whose load takes longer than the time between two changes would never show anything.
 */
export function useLoad<T>(key: string | null, load: (signal: AbortSignal) => Promise<T>, isLive = true): Loaded<T> {
  const [state, setState] = useState<{ key: string | null; data?: T; error?: ApiError }>({ key: null });
  const [turn, setTurn] = useState(0);
  const change = isLive ? changes.value : 0;
  const current = useRef<Running<T> | null>(null);
  const run = async (running: Running<T>): Promise<void> => {
    const { key, abort } = running;
    while (running.isStale && !abort.signal.aborted) {
      running.isStale = false;
      try {
        const data = await running.load(abort.signal);
        if (!abort.signal.aborted) setState({ key, data });
      } catch (error) {
        if (abort.signal.aborted) return;
        const problem = error instanceof ApiError ? error : new ApiError({ code: "page", title: "error", status: 0, detail: String(error) });
        setState((before) => (before.key === key && problem.problem.status === 0 ? { ...before, error: problem } : { key, error: problem }));
      }
    }
    if (current.current === running) current.current = null;
  };
  useEffect(() => {
    const running = current.current;
    if (running !== null && running.key === key) {
      running.load = load;
      running.isStale = true;
      return;
    }
    running?.abort.abort();
    current.current = key === null ? null : { key, load, abort: new AbortController(), isStale: true };
    if (current.current) void run(current.current);
  }, [key, change, turn]);
  useEffect(() => () => {
    current.current?.abort.abort();
    current.current = null;
  }, []);
  return {
    data: state.data,
    error: state.key === key ? state.error : undefined,
    isLoading: key !== null && state.key !== key,
    reload: () => setTurn((before) => before + 1),
  };
}

/** Loads an answer of the API. Loads the answer again when the path changes and, if `isLive`, when the database changes. */
export function useGet<T>(path: string | null, isLive = true): Loaded<T> {
  return useLoad<T>(path, (signal) => get<T>(path ?? "", signal), isLive);
}
