/** The model that is served: its version, its card, and what it can be asked to map. */
import { computed, effect, signal } from "@preact/signals";

import type { Model } from "./api/cases";
import { ApiError, api } from "./api/client";
import { mayRead, whose } from "./session";
import { words } from "./words";

export const model = signal<Model | null>(null);

/** What a video can be mapped for: [what the service is asked, what people read]. */
export const tasks = computed<[string, string][]>(() =>
  Object.keys(model.value?.instructions ?? {}).map((instruction) => [
    instruction,
    words.value.model.instructions[instruction] ?? instruction.replace(/^map /, ""),
  ]),
);

/** The name of a task as people read it. */
export const taskName = (task: string): string => words.value.model.tasks[task] ?? task;

effect(() => {
  const asker = mayRead.value ? whose.value : "";
  model.value = null;
  if (asker) void ask(asker);
});

async function ask(asker: string): Promise<void> {
  try {
    const found = (await api<{ models: Model[] }>("v1/models")).models[0] ?? null;
    if (whose.value === asker) model.value = found;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error; // without it the page works, and says no version
  }
}
