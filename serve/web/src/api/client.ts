/** The service's API: one function that sends a request, and one error that says what to do. */

export interface Options {
  method?: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  json?: unknown;
  body?: BodyInit;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

/** A refusal of the service, or no answer at all (`status` 0). */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    detail: string,
    /** The whole answer, such as the changes that stand against one's own. */
    readonly answer: unknown = null,
  ) {
    super(detail);
    this.name = "ApiError";
  }

  /** The stable name of the refusal; "" where it has none. */
  get code(): string {
    const { code } = (this.answer ?? {}) as { code?: unknown };
    return typeof code === "string" ? code : "";
  }

  /** What a sentence about the refusal names. */
  get values(): Record<string, string | number> {
    return (this.answer as { values?: Record<string, string | number> } | null)?.values ?? {};
  }

  /** Whether the same request may be answered a little later. */
  get mayPass(): boolean {
    return [0, 408, 429, 502, 503, 504].includes(this.status);
  }
}

type Listener = () => void;
const expired = new Set<Listener>();
let csrf = "";

/** Every request that changes something carries this token of the session. */
export function useToken(token: string | null | undefined): void {
  csrf = token ?? "";
}

/** Calls `listener` when the service no longer knows the session. */
export function onExpired(listener: Listener): () => void {
  expired.add(listener);
  return () => expired.delete(listener);
}

/** Sends a request and gives its JSON; null for an answer without content. Throws ApiError, or AbortError. */
export async function api<T>(path: string, options: Options = {}): Promise<T> {
  const answer = await send(path, options);
  return (answer.status === 204 ? null : await answer.json()) as T;
}

/** What `GET path` gives as a file, such as a clip. Throws ApiError, or AbortError. */
export async function file(path: string, options: Options = {}): Promise<Blob> {
  return (await send(path, options)).blob();
}

async function send(path: string, options: Options): Promise<Response> {
  const { method = "GET", json, signal } = options;
  const headers: Record<string, string> = { ...options.headers };
  let body = options.body;
  if (json !== undefined) {
    body = JSON.stringify(json);
    headers["content-type"] = "application/json";
  }
  const sentWith = csrf;
  if (method !== "GET" && csrf) headers["x-csrf-token"] = csrf;
  let answer: Response;
  try {
    answer = await fetch(path, { method, headers, body, signal, credentials: "same-origin" });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "");
  }
  if (answer.ok) return answer;
  const problem = (await answer.json().catch(() => ({}))) as { detail?: unknown };
  // The refusal of a sign-in, or of a link, says nothing of the session that there is.
  const isSignIn = path.split("/")[0] === "session";
  if (answer.status === 401 && !isSignIn && sentWith && sentWith === csrf) for (const listener of expired) listener();
  throw new ApiError(answer.status, typeof problem.detail === "string" ? problem.detail : "", problem);
}
