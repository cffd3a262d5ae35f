/** A service for tests of components: answers by method and path, and keeps what was asked. */
import { vi } from "vitest";

export interface Asked {
  method: string;
  path: string;
  body: unknown;
  headers: Record<string, string>;
}

/** An answer: JSON with status 200, a Response, or a function of what was asked that gives either, also later. */
export type Answer = unknown | Response | ((asked: Asked) => unknown);

export function serve(answers: Record<string, Answer>): Asked[] {
  const asked: Asked[] = [];
  vi.stubGlobal("fetch", async (path: string, init: RequestInit = {}) => {
    const method = init.method ?? "GET";
    const one: Asked = {
      method,
      path,
      body: typeof init.body === "string" ? JSON.parse(init.body) : (init.body ?? null),
      headers: { ...(init.headers as Record<string, string>) },
    };
    asked.push(one);
    const key = `${method} ${path}`;
    if (!(key in answers)) return new Response(JSON.stringify({ detail: `no answer for ${key}` }), { status: 404 });
    const answer = answers[key];
    const found = typeof answer === "function" ? await (answer as (asked: Asked) => unknown)(one) : answer;
    if (found instanceof Response) return found;
    return found === null ? new Response(null, { status: 204 }) : new Response(JSON.stringify(found));
  });
  return asked;
}

export const refused = (status: number, detail: string): Response =>
  new Response(JSON.stringify({ detail }), { status });
