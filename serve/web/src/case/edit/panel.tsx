import { useComputed } from "@preact/signals";
import { useRef } from "preact/hooks";

import type { Video } from "../../api/types";
import { useKeys } from "../../components/keys";
import { Trouble } from "../../components/messages";
import { clockTenths, percent, words } from "../../words";
import { laneName } from "../describe";
import type { Player, Selection } from "../interfaces";
import type { TagKnown } from "../lanes";
import { AddForm } from "./add-form";
import { Agreement } from "./agreement";
import { Atlas } from "./atlas";
import { CategoryMenu } from "./category-menu";
import { ClashDialog } from "./clash-dialog";
import { Conflicts } from "./conflicts";
import { canSplit } from "./corrections";
import { DeedButton } from "./deed-button";
import { type Editor, useEditor } from "./editor";
import { EndField } from "./end-field";
import { History } from "./history";
import type { Layer } from "./layer";
import { SimilarMoments } from "./similar";
import "./edit.css";

interface Parts {
  video: Video;
  layer: Layer;
  player: Player;
  selection: Selection;
  /** The tags that the model knows, with all their categories. */
  taxonomy: TagKnown[];
}

/** The corrections of a case: the selected span, what to look at next, and what people have said. */
export function EditPanel(parts: Parts) {
  const { video, layer, player, selection } = parts;
  const { edit: text } = words.value;
  const editor = useEditor(layer, player, selection);
  const mayAnnotate = video.rights.includes("annotate");
  const path = `v1/videos/${video.video_id}/annotations`;
  return (
    <section class="edit" aria-labelledby="edit-title">
      <h2 id="edit-title">{text.title}</h2>
      {mayAnnotate ? <Corrections editor={editor} {...parts} /> : <p class="soft">{text.onlyLook}</p>}
      <Conflicts layer={layer} player={player} selection={selection} />
      <Agreement path={path} revision={layer.revision.value} />
      <History path={path} layer={layer} player={player} />
      {mayAnnotate && <Atlas path={path} unsaved={layer.unsaved.value} revision={layer.revision.value} />}
      {layer.clash.value && <ClashDialog clash={layer.clash.value} layer={layer} />}
    </section>
  );
}

function Corrections({ editor, taxonomy, video, layer, player, selection }: Parts & { editor: Editor }) {
  const { edit: text } = words.value;
  const addForm = useRef<HTMLFormElement>(null);
  useKeys({
    A: editor.accept,
    X: editor.reject,
    S: editor.split,
    M: editor.merge,
    N: () => addForm.current?.querySelector("input")?.focus(),
    G: editor.queue.next,
    "Shift+G": editor.queue.before,
    "Ctrl+Z": () => layer.undo(),
    "Ctrl+Shift+Z": () => layer.redo(),
  });
  return (
    <>
      <Saving layer={layer} />
      <div class="row">
        <DeedButton keyName="Ctrl+Z" disabled={!layer.canUndo.value} onClick={() => layer.undo()}>
          {text.undo}
        </DeedButton>
        <DeedButton keyName="Ctrl+Shift+Z" shown="Ctrl+⇧+Z" disabled={!layer.canRedo.value} onClick={() => layer.redo()}>
          {text.redo}
        </DeedButton>
      </div>
      <Queue editor={editor} />
      <Selected editor={editor} known={taxonomy} player={player} selection={selection} />
      <SimilarMoments video={video} layer={layer} player={player} span={editor.corrected} />
      <AddForm form={addForm} editor={editor} known={taxonomy} player={player} selection={selection} />
    </>
  );
}

/** What is saved; nobody has to think of saving, but whoever closes the page has to know. */
function Saving({ layer }: { layer: Layer }) {
  const { edit: text } = words.value;
  const n = layer.unsaved.value;
  const error = layer.error.value;
  if (!error)
    return (
      <p class="soft" role="status">
        {n ? text.saving(n) : text.saved}
      </p>
    );
  return (
    <div>
      <Trouble error={error} />
      {n > 0 && (
        <p class="row">
          <span role="status">{text.unsaved(n)}</span>
          <button type="button" class="plain small" onClick={() => void layer.send()}>
            {text.again}
          </button>
          {layer.isRefused.value && (
            <button type="button" class="danger small" onClick={() => layer.giveUp()}>
              {text.giveUp}
            </button>
          )}
        </p>
      )}
    </div>
  );
}

function Queue({ editor: { queue, lanes } }: { editor: Editor }) {
  const { edit: text } = words.value;
  const isDone = queue.isEnd && queue.all > 0;
  return (
    <div class="part" role="group" aria-labelledby="queue-title">
      <h3 id="queue-title">{text.queue}</h3>
      <p class="soft">{isDone ? text.queueDone : text.queueHint}</p>
      <div class="row">
        <select
          aria-label={text.lane}
          value={queue.tag ?? ""}
          onChange={(event) => queue.filter(event.currentTarget.value || null)}
        >
          <option value="">{text.allLanes}</option>
          {lanes
            .filter((lane) => lane.spans.some((span) => span.row))
            .map((lane) => (
              <option key={lane.tag} value={lane.tag}>
                {laneName(lane.tag)}
              </option>
            ))}
        </select>
        <DeedButton keyName="Shift+G" shown="⇧+G" disabled={!queue.hasBefore} onClick={queue.before}>
          {text.before}
        </DeedButton>
        <DeedButton keyName="G" plain={false} disabled={queue.isEnd} onClick={queue.next}>
          {text.next}
        </DeedButton>
      </div>
      <progress max={Math.max(1, queue.all)} value={queue.looked} aria-labelledby="queue-count" />
      <p id="queue-count" class="soft numbers">
        {text.lookedAt(queue.looked, queue.all)}
      </p>
    </div>
  );
}

function Selected({ editor, known, player, selection }: { editor: Editor; known: TagKnown[]; player: Player; selection: Selection }) {
  const { edit: text } = words.value;
  const { span, next } = editor;
  // The playhead moves with every frame, and the buttons are drawn again only when a split becomes possible or not.
  const mayBeSplit = useComputed(() => span !== null && canSplit(span, player.timeS.value));
  if (!span) return <p class="part soft">{selection.span.value ? text.gap : text.nothing}</p>;
  const lane = editor.lanes.find((one) => one.tag === span.tag);
  const categories = known.find((one) => one.tag === span.tag)?.categories ?? lane?.categories ?? [span.category];
  const who = span.mine ? text.you : (span.author ?? "");
  const frameS = 1 / (player.fps || 25);
  return (
    <div class="part" role="group" aria-labelledby="selected-title">
      <h3 id="selected-title">
        {text.selected}: {laneName(span.tag)}
      </h3>
      <p class="soft" role="status">
        {span.state ? text.states[span.state](who) : span.confidence !== null && text.models(percent(span.confidence))}{" "}
        {span.state && span.row && text.modelSaid(span.row.category, clockTenths(span.row.start_s), clockTenths(span.row.stop_s))}
      </p>
      <CategoryMenu key={span.tag} label={text.category} value={span.category} categories={categories} onChange={editor.setCategory} />
      <div class="ends">
        <EndField key={`${span.id} start`} label={text.start} valueS={span.startS} frameS={frameS} onMove={(toS) => editor.setEnd("start", toS)} />
        <EndField key={`${span.id} stop`} label={text.stop} valueS={span.stopS} frameS={frameS} onMove={(toS) => editor.setEnd("stop", toS)} />
      </div>
      <div class="row">
        <DeedButton keyName="A" hint={text.acceptHint} onClick={editor.accept}>
          {text.accept}
        </DeedButton>
        <DeedButton keyName="X" hint={text.rejectHint} disabled={span.state === "rejected"} onClick={editor.reject}>
          {text.reject}
        </DeedButton>
        <DeedButton keyName="S" hint={text.splitHint} disabled={!mayBeSplit.value} onClick={editor.split}>
          {text.split}
        </DeedButton>
        <DeedButton keyName="M" hint={next ? text.mergeHint(next.category, clockTenths(next.startS), clockTenths(next.stopS)) : undefined} disabled={!next} onClick={editor.merge}>
          {text.merge}
        </DeedButton>
        {span.state && (
          <button type="button" class="plain small" title={text.withdrawHint} onClick={editor.withdraw}>
            {text.withdraw}
          </button>
        )}
        <button type="button" class="plain small" onClick={() => player.playSpan(span.startS, span.stopS)}>
          {text.play}
        </button>
      </div>
    </div>
  );
}
