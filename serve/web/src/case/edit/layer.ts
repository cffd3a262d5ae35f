/** The state of a case's layer while it is edited: what the service has, what is not saved yet, undo and redo. */
import { type ReadonlySignal, batch, computed, signal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";

import { ApiError, api } from "../../api/client";
import { session } from "../../session";
import type { Lane, Span } from "../interfaces";
import {
  type Annotations,
  type Author,
  type Change,
  type Conflict,
  type Mark,
  allApplied,
  inverses,
  isDone,
  marksOf,
  moved,
  rebased,
  shifted,
} from "./changes";
import { SHORTEST_S, setEnds } from "./corrections";
import { type LayerLane, type LayerSpan, merged } from "./merged";
import { type Deed, keep, kept } from "./unsaved";

const FIRST_WAIT_MS = 2000;
const LONGEST_WAIT_MS = 30_000;

/** Somebody else's word stands against mine: `theirs` are the spans as they are now; one that is not there is gone. */
export interface Clash {
  mine: Change[];
  theirs: Mark[];
}

export interface LayerOptions {
  mayAnnotate?: boolean;
  /** The service shows the caller the model's answers alone, so nobody else's are asked for. */
  modelAlone?: boolean;
  /** Of the video; a person's spans end with it. */
  durationS?: number;
  /** When the video begins in its case. The layer's times are those of the case, those of the service the video's. */
  offsetS?: number;
}

export class Layer {
  private readonly base = signal<Annotations | null>(null);
  private readonly queue = signal<Deed[]>([]);
  private readonly models = signal<readonly Lane[]>([]);
  private readonly undone = signal<Change[][]>([]);
  private readonly done = signal<Change[][]>([]);
  private readonly clashing = signal<Clash | null>(null);
  private readonly failed = signal<unknown>(null);
  private readonly path: string;
  /** Where the video begins and ends, in seconds of the case. */
  readonly offsetS: number;
  readonly stopS: number;
  private sending = false;
  private isOver = false;
  private waitMs = FIRST_WAIT_MS;
  private timer: ReturnType<typeof setTimeout> | undefined;

  /** `userId`: what is unsaved of one person is never sent in the name of another who uses the same tab. */
  constructor(
    readonly videoId: string,
    private readonly userId: string,
    private readonly userName: string,
    private readonly options: LayerOptions = {},
  ) {
    this.offsetS = options.offsetS ?? 0;
    this.stopS = this.offsetS + (options.durationS ?? Infinity);
    this.path = `v1/videos/${videoId}/annotations`;
  }

  private readonly marks = computed(() => {
    const saved = marksOf(this.base.value?.spans ?? []);
    return this.queue.value.reduce((so, deed) => allApplied(so, deed.changes, this.me, deed.atS), saved);
  });
  private readonly merged = computed(() => merged(this.models.value, this.marks.value));
  readonly spans: ReadonlySignal<LayerSpan[]> = computed(() =>
    this.merged.value.flatMap((lane) => lane.spans).sort((one, other) => one.startS - other.startS || one.stopS - other.stopS),
  );
  private readonly byId = computed(() => {
    const spans = new Map(this.spans.value.map((span) => [span.id, span]));
    for (const span of this.spans.value) if (span.spanId !== null) spans.set(span.spanId, span);
    return spans;
  });
  readonly conflicts: ReadonlySignal<Conflict[]> = computed(() => this.base.value?.conflicts ?? []);
  readonly revision: ReadonlySignal<number> = computed(() => this.base.value?.revision ?? 0);
  readonly isLoaded: ReadonlySignal<boolean> = computed(() => this.base.value !== null);
  readonly unsaved: ReadonlySignal<number> = computed(() => this.queue.value.length);
  readonly canUndo: ReadonlySignal<boolean> = computed(() => this.done.value.length > 0);
  readonly canRedo: ReadonlySignal<boolean> = computed(() => this.undone.value.length > 0);
  readonly clash: ReadonlySignal<Clash | null> = this.clashing;
  /** Why the oldest unsaved change is not saved; null while it is under way, or where nothing is unsaved. */
  readonly error: ReadonlySignal<unknown> = this.failed;

  /** The model's lanes with people's spans in them. */
  get lanes(): LayerLane[] {
    return this.merged.value;
  }

  /** Moves an end of a span; undefined where the caller may not annotate. */
  get drag(): ((span: Span, end: "start" | "stop", toS: number) => void) | undefined {
    return this.options.mayAnnotate ? (span, end, toS) => void this.moveEnd(span, end, toS) : undefined;
  }

  /** Whether the service refuses the oldest unsaved change, so that trying again alone does not help. */
  readonly isRefused: ReadonlySignal<boolean> = computed(() => {
    const error = this.failed.value;
    return this.unsaved.value > 0 && error instanceof ApiError && !error.mayPass && error.status !== 401;
  });
  readonly historyCount: ReadonlySignal<number> = computed(() => this.base.value?.history_count ?? 0);

  private get me(): Author {
    return { author: "", author_name: this.userName };
  }

  /** Reads the layer, and sends what an earlier view of the case in this tab has left unsaved. */
  async begin(): Promise<void> {
    this.queue.value = kept(this.userId, this.videoId).map((deed) => ({ ...deed, changes: moved(deed.changes, this.offsetS) }));
    await this.reload();
    void this.send();
  }

  end(): void {
    this.isOver = true;
    clearTimeout(this.timer);
  }

  show(lanes: readonly Lane[]): void {
    this.models.value = lanes;
  }

  /** Reads what the service has now, such as what somebody else has said meanwhile. */
  async reload(): Promise<void> {
    try {
      this.take(await api<Annotations>(this.path));
      if (!this.queue.value.length) this.failed.value = null;
    } catch (error) {
      if (this.isOver) return;
      this.failed.value = error;
      if (error instanceof ApiError && error.mayPass) this.later(() => this.reload());
    }
  }

  /** An answer that was overtaken by a newer one is dropped. */
  private take(found: Annotations): void {
    if (this.isOver || found.revision < this.revision.value) return;
    const conflicts = found.conflicts.map((one) => shifted(one, this.offsetS));
    this.base.value = { ...found, spans: moved(found.spans, this.offsetS), conflicts };
  }

  private later(work: () => Promise<void>): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void work(), this.waitMs);
    this.waitMs = Math.min(LONGEST_WAIT_MS, 2 * this.waitMs);
  }

  /** The span as it is now, by its id, or by the id of what a person said. */
  find(wanted: Pick<Span, "id"> | string | null): LayerSpan | null {
    if (wanted === null) return null;
    const id = typeof wanted === "string" ? wanted : wanted.id;
    return this.byId.value.get(id) ?? null;
  }

  /** Makes the changes of one deed: seen at once, then sent in the order in which they were made. */
  apply(wanted: Change[]): void {
    const changes = wanted.flatMap((change) => within(change, this.offsetS, this.stopS));
    if (!changes.length) return;
    const back = inverses(this.marks.value, changes);
    batch(() => {
      this.done.value = [...this.done.value, back];
      this.undone.value = [];
      this.enqueue(changes);
    });
  }

  /** Moves one end of a span, and gives the span to select then. */
  moveEnd(span: Span, end: "start" | "stop", toS: number): LayerSpan | null {
    const found = this.find(span);
    if (!found) return null;
    const [startS, stopS] = end === "start" ? [toS, found.stopS] : [found.startS, toS];
    const changes = setEnds(found, startS, stopS, this.stopS);
    this.apply(changes);
    return this.find(changes[0]?.span_id ?? found.id);
  }

  undo(): void {
    this.step(this.done, this.undone);
  }

  redo(): void {
    this.step(this.undone, this.done);
  }

  private step(from: typeof this.done, to: typeof this.done): void {
    const changes = from.value.at(-1);
    if (!changes) return;
    const back = inverses(this.marks.value, changes);
    batch(() => {
      from.value = from.value.slice(0, -1);
      to.value = [...to.value, back];
      this.enqueue(changes);
    });
  }

  private enqueue(changes: Change[]): void {
    this.store([...this.queue.value, { changes, atS: Date.now() / 1000, revision: this.base.value?.revision }]);
    void this.send();
  }

  private store(queue: Deed[]): void {
    this.queue.value = queue;
    keep(this.userId, this.videoId, queue.map((deed) => ({ ...deed, changes: moved(deed.changes, -this.offsetS) })));
  }

  /** Sends what is unsaved, oldest first. One request at a time, so that the order stays. */
  async send(): Promise<void> {
    clearTimeout(this.timer);
    if (this.sending || this.clashing.value) return;
    this.sending = true;
    try {
      while (this.queue.value.length && !this.isOver) await this.sendOldest();
    } catch (error) {
      this.refused(error);
    } finally {
      this.sending = false;
    }
  }

  private async sendOldest(): Promise<void> {
    const oldest = this.queue.value[0]!;
    if (!this.base.value || oldest.isTried) {
      // An answer may have been lost on its way: the service is asked first what it already has.
      this.take(await api<Annotations>(this.path));
      const marks = marksOf(this.base.value!.spans);
      if (oldest.changes.every((change) => isDone(marks, change))) return this.store(this.queue.value.slice(1));
    }
    this.store([{ ...oldest, isTried: true }, ...this.queue.value.slice(1)]);
    const json = { revision: oldest.revision ?? this.base.value!.revision, changes: moved(oldest.changes, -this.offsetS) };
    const found = await api<Annotations>(this.path, { method: "POST", json });
    batch(() => {
      this.take(found);
      this.failed.value = null;
      this.store(this.queue.value.slice(1));
    });
    this.waitMs = FIRST_WAIT_MS;
  }

  private refused(error: unknown): void {
    const oldest = this.queue.value[0];
    if (error instanceof ApiError && error.status === 409 && oldest) {
      const theirs = (error.answer as { spans?: Mark[] } | null)?.spans ?? [];
      this.clashing.value = { mine: oldest.changes, theirs: moved(theirs, this.offsetS) };
      return;
    }
    this.failed.value = error;
    if (this.isOver || !(error instanceof ApiError) || !error.mayPass) return;
    this.later(() => this.send());
  }

  /** Ends a clash. `keepMine` false: what stands stays, and what else of mine is unsaved about these spans goes. */
  async settle(keepMine: boolean): Promise<void> {
    const clash = this.clashing.value;
    if (!clash) return;
    const found = await api<Annotations>(this.path);
    const [oldest, ...later] = this.queue.value;
    batch(() => {
      this.take(found);
      this.clashing.value = null;
      if (keepMine) {
        const changes = rebased(marksOf(moved(found.spans, this.offsetS)), clash.mine, this.me);
        const revision = found.revision;
        const again: Deed[] = changes.length ? [{ changes, atS: oldest!.atS, revision }] : [];
        // What else is unsaved about these spans was decided with them.
        const others = later.map((deed) => (isAbout(deed.changes, clash.mine) ? { ...deed, revision } : deed));
        this.store([...again, ...others]);
      } else this.store(this.withoutThese(later, clash.mine));
    });
    void this.send();
  }

  /** Gives up the oldest unsaved deed, which the service refuses, and what else is unsaved about its spans. */
  giveUp(): void {
    const [oldest, ...later] = this.queue.value;
    if (!oldest) return;
    this.failed.value = null;
    this.store(this.withoutThese(later, oldest.changes));
    void this.send();
  }

  private withoutThese(deeds: Deed[], changes: Change[]): Deed[] {
    const isOther = (one: Change[]) => !isAbout(one, changes);
    this.done.value = this.done.value.filter(isOther);
    this.undone.value = this.undone.value.filter(isOther);
    return deeds.filter((deed) => isOther(deed.changes));
  }
}

/** A change within the video alone: what lies before it or behind it is cut off, and nothing is left of another. */
function within(change: Change, fromS: number, toS: number): Change[] {
  const [start_s, stop_s] = [Math.max(fromS, change.start_s), Math.min(toS, change.stop_s)];
  if (start_s === change.start_s && stop_s === change.stop_s) return [change];
  return stop_s - start_s < SHORTEST_S ? [] : [{ ...change, start_s, stop_s }];
}

/** Whether `one` and `other` change a span in common. */
function isAbout(one: readonly Change[], other: readonly Change[]): boolean {
  const ids = new Set(other.map((change) => change.span_id));
  return one.some((change) => ids.has(change.span_id));
}

/** The layer of a case over the model's `lanes`. One layer per case, with what it has unsaved. */
export function useLayer(videoId: string, lanes: readonly Lane[], options: LayerOptions = {}): Layer {
  const { user, name } = session.value ?? {};
  const { mayAnnotate, durationS, modelAlone, offsetS } = options;
  const layer = useMemo(
    () => new Layer(videoId, user ?? "", name ?? "", { mayAnnotate, durationS, offsetS }),
    [videoId, user, mayAnnotate, durationS, offsetS],
  );
  useMemo(() => layer.show(lanes), [layer, lanes]);
  useEffect(() => {
    if (modelAlone) return;
    void layer.begin();
    const again = () => void layer.send();
    const look = () => {
      if (!document.hidden && !layer.unsaved.peek()) void layer.reload();
    };
    const warn = (event: BeforeUnloadEvent) => {
      if (layer.unsaved.peek()) event.preventDefault();
    };
    addEventListener("online", again);
    document.addEventListener("visibilitychange", look);
    addEventListener("beforeunload", warn);
    return () => {
      removeEventListener("online", again);
      document.removeEventListener("visibilitychange", look);
      removeEventListener("beforeunload", warn);
      layer.end();
    };
  }, [layer, modelAlone]);
  return layer;
}
