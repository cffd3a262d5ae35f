import { useState } from "preact/hooks";

import type { Case } from "../api/cases";
import { api } from "../api/client";
import { useAction } from "../components/action";
import { Dialog } from "../components/dialog";
import { Trouble } from "../components/messages";
import { toCase, toWhole } from "../router";
import { clock, date, day, words } from "../words";
import "./card.css";
import { isUnderWay, statusOf, stepsOf, titleOf } from "./case-words";
import { Describe, isBegun } from "./describe";

interface Props {
  found: Case;
  /** Words of the procedures that the model knows. */
  procedures: string[];
  reload: () => Promise<void>;
  /** Place in the choice, from 1 on; 0: not chosen; null: nothing is being chosen. */
  chosen: number | null;
  onChoose: () => void;
}

/** One case of the library. */
export function Card({ found, procedures, reload, chosen, onChoose }: Props) {
  const { library, about } = words.value;
  const [dialog, setDialog] = useState<"describe" | "apart" | null>(() => (isBegun(found) ? "describe" : null));
  const name = titleOf(found);
  const may = (right: string) => found.rights.includes(right);
  const map = useAction(async () => {
    for (const videoId of found.videos) await api(`v1/videos/${videoId}/maps`, { method: "POST", json: {} });
    await reload();
  });
  const isSuggested = !found.procedure.chosen && found.procedure.suggested;
  return (
    <li class={chosen ? "case chosen" : "case"}>
      <div class="poster">
        {found.poster ? <img src={found.poster} alt="" loading="lazy" /> : <span class="soft">{library.noPoster}</span>}
      </div>
      <div class="what">
        <h2>
          {chosen !== null && (
            <label class="choose">
              <input type="checkbox" checked={chosen > 0} aria-label={library.chooseCase(name)} onChange={onChoose} />
              {chosen > 0 && <span aria-hidden="true">{chosen}</span>}
            </label>
          )}
          <a href={found.videos.length > 1 ? toWhole(found.case_id) : toCase(found.videos[0] ?? found.case_id)}>{name}</a>
          {isSuggested && <span class="soft suggested">{library.suggested}</span>}
        </h2>
        <p class="soft numbers">{factsOf(found)}</p>
        <p class={found.status.state === "failed" ? "status failed" : "status"}>{statusOf(found)}</p>
        {isUnderWay(found) && found.status.state !== "queued" && (
          <progress max={1} value={found.status.done_share} aria-label={about.progress} />
        )}
        <Strip found={found} />
        {(found.labels.length > 0 || !found.mine) && (
          <p class="row labels">
            {found.labels.map((label) => (
              <span key={label} class="pill">
                {label}
              </span>
            ))}
            {!found.mine && <span class="soft">{library.ofSomebodyElse}</span>}
          </p>
        )}
        <Trouble error={map.error} />
      </div>
      <div class="row acts">
        {found.status.state === "new" && may("map") && (
          <button type="button" class="small" disabled={map.busy} onClick={() => void map.run()}>
            {library.map}
          </button>
        )}
        {may("describe") && (
          <button type="button" class="plain small" aria-label={library.editOf(name)} onClick={() => setDialog("describe")}>
            {library.edit}
          </button>
        )}
        {may("describe") && found.videos.length > 1 && (
          <button type="button" class="plain small" onClick={() => setDialog("apart")}>
            {library.apart}
          </button>
        )}
      </div>
      {dialog === "describe" && (
        <Describe found={found} procedures={procedures} reload={reload} onClose={() => setDialog(null)} />
      )}
      {dialog === "apart" && <Apart found={found} reload={reload} onClose={() => setDialog(null)} />}
    </li>
  );
}

function factsOf(found: Case): string {
  const { library, about } = words.value;
  const number = about.name(found.videos[0] ?? found.case_id);
  return [
    ...(titleOf(found) === number ? [] : [number]),
    found.operated_on ? library.operatedOn(day(found.operated_on)) : library.added(date(found.created_s)),
    clock(found.duration_s),
    ...(found.videos.length > 1 ? [library.files(found.videos.length)] : []),
    ...(found.stitches === null ? [] : [library.stitches(found.stitches)]),
  ].join(" · ");
}

const COLOURS = 10;

/** The steps of the case from its beginning to its end. */
function Strip({ found }: { found: Case }) {
  const { library } = words.value;
  if (found.strip.length === 0) return null;
  return (
    <div class="strip" role="img" aria-label={library.strip(stepsOf(found).join(", "))}>
      {found.strip.map(([start, stop, index]) => (
        <span
          key={start}
          title={found.strip_categories[index]}
          style={{ left: `${100 * start}%`, width: `${100 * (stop - start)}%`, background: `var(--c${index % COLOURS})` }}
        />
      ))}
    </div>
  );
}

function Apart({ found, reload, onClose }: { found: Case; reload: () => Promise<void>; onClose: () => void }) {
  const { library, page } = words.value;
  const action = useAction(async () => {
    await api(`v1/cases/${found.case_id}`, { method: "DELETE" });
    onClose();
    await reload();
  });
  return (
    <Dialog title={library.apartTitle} onClose={onClose}>
      <p>
        {titleOf(found)}. {library.apartMeans(found.videos.length)}
      </p>
      <Trouble error={action.error} />
      <div class="row">
        <button type="button" disabled={action.busy} onClick={() => void action.run()}>
          {library.apart}
        </button>
        <button type="button" class="plain" onClick={onClose}>
          {page.cancel}
        </button>
      </div>
    </Dialog>
  );
}
