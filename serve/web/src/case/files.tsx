import type { ComponentChildren } from "preact";

import { api } from "../api/client";
import type { Case, CaseFile } from "../api/cases";
import { useAction } from "../components/action";
import { Trouble } from "../components/messages";
import { clock, words } from "../words";
import { capital } from "../words/en";
import type { Border } from "./timeline/timeline";
import type { VideoPlayer } from "./video-player";
import "./files.css";

interface Props {
  found: Case;
  files: readonly CaseFile[];
  borders: readonly Border[];
  player: VideoPlayer;
  /** Asks the service for the case anew. */
  reload: () => Promise<void>;
  /** What can be done with all of them. */
  children: ComponentChildren;
}

/** The files of a case in order: where each begins, how far it is, and a way there; whoever may puts them in order. */
export function Files({ found, files, borders, player, reload, children }: Props) {
  const { files: text } = words.value;
  const mayOrder = found.rights.includes("describe");
  const order = useAction(async (video_ids: string[]) => {
    await api("v1/cases", { method: "POST", json: { video_ids } });
    await reload();
  });
  const move = (from: number, by: number) => {
    const ids = files.map((file) => file.video_id);
    [ids[from], ids[from + by]] = [ids[from + by]!, ids[from]!];
    void order.run(ids);
  };
  const shown = player.part.value;
  return (
    <section class="files-of-case card" aria-labelledby="files-title">
      <h2 id="files-title">{text.title}</h2>
      <ol>
        {files.map((file, index) => (
          <li key={file.video_id} aria-current={index === shown ? "true" : undefined}>
            {file.after_hidden && <p class="notice warn">{text.hiddenBefore(file.number)}</p>}
            <div class="row">
              <button type="button" class="plain small" onClick={() => player.seek(file.offset_s)}>
                {text.goTo(file.number)}
              </button>
              <span>
                {capital(text.nameOf(file.number, files.length))} {text.states[file.state] ?? file.state};{" "}
                {text.at(clock(file.offset_s), clock(file.duration_s))}
              </span>
              {mayOrder && (
                <>
                  <button type="button" class="plain small" aria-label={text.earlier(file.number)} disabled={order.busy || index === 0} onClick={() => move(index, -1)}>
                    ↑
                  </button>
                  <button type="button" class="plain small" aria-label={text.later(file.number)} disabled={order.busy || index === files.length - 1} onClick={() => move(index, 1)}>
                    ↓
                  </button>
                </>
              )}
            </div>
          </li>
        ))}
      </ol>
      {borders.at(-1)?.isHidden && found.ends_hidden && <p class="notice warn">{text.hiddenAfter}</p>}
      {mayOrder && files.length > 1 && <p class="soft">{text.orderHint}</p>}
      <Trouble error={order.error} />
      {children}
    </section>
  );
}

const FORMATS = ["csv", "vtt", "srt", "json"];

/** The map of the whole operation as files, and on paper. */
export function CaseExports({ caseId }: { caseId: string }) {
  const { files: text, share, summary } = words.value;
  return (
    <section class="card" aria-labelledby="case-exports">
      <h2 id="case-exports">{text.exports}</h2>
      <button type="button" class="plain" onClick={() => print()}>
        {summary.print}
      </button>
      <ul class="files" aria-labelledby="case-exports">
        {FORMATS.map((format) => (
          <li key={format}>
            <a href={`v1/cases/${caseId}/timeline?format=${format}`} download={`${caseId}.${format}`}>
              {share.formats[format]}
            </a>
          </li>
        ))}
      </ul>
      <p class="soft">{text.exportsHint}</p>
    </section>
  );
}
