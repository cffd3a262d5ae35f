/** Deleting a file, and a whole operation of several: each says what goes and what stays. */
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";

import { api } from "../api/client";
import type { Case } from "../api/cases";
import type { Video } from "../api/types";
import { useAction } from "../components/action";
import { Dialog } from "../components/dialog";
import { Trouble } from "../components/messages";
import { forgetDraftsAbout } from "../drafts";
import { go, toCase, toLibrary } from "../router";
import { words } from "../words";

/** Which file of a case of several a video is. `number`: from 1 on. `beside`: the id of another file; null: none is seen. */
export interface FileInCase {
  number: number;
  count: number;
  caseName: string;
  beside: string | null;
  /** Asks the service for the case anew. */
  reload: () => Promise<void>;
}

interface DeleteFileProps {
  video: Video;
  /** What is known of the file, in words. */
  facts: string;
  /** null: the file is the whole case. */
  file: FileInCase | null;
}

export function DeleteFile({ video, facts, file }: DeleteFileProps) {
  const { about } = words.value;
  const remove = async () => {
    await removed(video.video_id);
    if (!file) forgetDraftsAbout(video.case_id);
    go(file?.beside ? toCase(file.beside) : toLibrary());
    await file?.reload();
  };
  if (!file)
    return (
      <DeleteButton text={about.delete} title={about.deleteTitle(about.name(video.video_id))} remove={remove}>
        {about.deleteMeans(facts)}
      </DeleteButton>
    );
  const { number, count, caseName } = file;
  return (
    <DeleteButton text={about.deleteFile(number, count)} title={about.deleteFileTitle(number, count, caseName)} remove={remove}>
      {about.deleteFileMeans(facts, number)}
    </DeleteButton>
  );
}

interface DeleteCaseProps {
  found: Case;
  caseName: string;
  /** The files that the user sees, all of them. */
  videos: readonly Video[];
}

/** Deletes an operation with all of its files at once, where the user may delete each of them. */
export function DeleteCase({ found, caseName, videos }: DeleteCaseProps) {
  const { about } = words.value;
  const count = found.files.length;
  const own = videos.filter((video) => video.rights.includes("delete")).length;
  const isHidden = found.ends_hidden || found.files.some((file) => file.after_hidden);
  if (count < 2 || videos.length < count || own === 0) return null;
  if (own < count) return <p class="soft">{about.deletePart(own, count)}</p>;
  const remove = async () => {
    await api(`v1/cases/${found.case_id}/files`, { method: "DELETE" });
    for (const { video_id: videoId } of videos) forgetDraftsAbout(videoId);
    forgetDraftsAbout(found.case_id);
    go(toLibrary());
  };
  return (
    <DeleteButton text={about.deleteCase(count)} title={about.deleteCaseTitle(caseName, count)} remove={remove}>
      {about.deleteCaseMeans(count)} {isHidden && about.deleteHidden}
    </DeleteButton>
  );
}

async function removed(videoId: string): Promise<void> {
  await api(`v1/videos/${videoId}`, { method: "DELETE" });
  forgetDraftsAbout(videoId);
}

interface DeleteButtonProps {
  text: string;
  title: string;
  remove: () => Promise<void>;
  /** What is deleted, in words. */
  children: ComponentChildren;
}

function DeleteButton({ text, title, remove, children }: DeleteButtonProps) {
  const { about } = words.value;
  const [isOpen, setOpen] = useState(false);
  const action = useAction(remove);
  const ask = () => {
    action.clear();
    setOpen(true);
  };
  const close = () => setOpen(false);
  return (
    <>
      <button type="button" class="danger" onClick={ask}>
        {text}
      </button>
      {isOpen && (
        <Dialog title={title} onClose={close}>
          <p>{children}</p>
          <Trouble error={action.error} />
          <div class="row">
            <button type="button" autofocus disabled={action.busy} onClick={close}>
              {about.keep}
            </button>
            <button type="button" class="danger" disabled={action.busy} onClick={() => void action.run()}>
              {about.confirm}
            </button>
          </div>
        </Dialog>
      )}
    </>
  );
}
