import { useEffect, useState } from "preact/hooks";

import { Dialog } from "../components/dialog";
import { tasks } from "../model";
import { words } from "../words";
import { add } from "./queue";
import "./tray.css";

const byName = (one: File, other: File) => one.name.localeCompare(other.name, undefined, { numeric: true });

/** Chooses videos and what to map them for. Several at once may be one operation. Files may be dropped anywhere. */
export function AddVideos() {
  const { upload } = words.value;
  const [instruction, setInstruction] = useState("");
  const [isOver, setOver] = useState(false);
  const [asked, setAsked] = useState<File[]>([]);
  const take = (files: File[]) => {
    if (files.length > 1) setAsked(files.sort(byName));
    else if (files.length) add(files, instruction, false);
  };
  useDrop(setOver, take);
  return (
    <section class={isOver ? "add-videos over" : "add-videos"} aria-labelledby="add-videos">
      <h2 id="add-videos">{upload.title}</h2>
      <p>{upload.drop}</p>
      <div class="row">
        <label class="file-button">
          {upload.choose}
          <input
            class="seen-by-readers"
            type="file"
            accept="video/*,.mkv,.avi,.mov,.ts,.mxf"
            multiple
            onChange={(event) => {
              take([...(event.currentTarget.files ?? [])]);
              event.currentTarget.value = "";
            }}
          />
        </label>
        <label>
          <span>{upload.map}</span>
          <select value={instruction} onChange={(event) => setInstruction(event.currentTarget.value)}>
            <option value="">{upload.everything}</option>
            {tasks.value.map(([asked, text]) => (
              <option key={asked} value={asked}>
                {text}
              </option>
            ))}
          </select>
        </label>
      </div>
      <p class="soft">{upload.means}</p>
      {asked.length > 1 && (
        <OneOrSeveral
          files={asked}
          onClose={() => setAsked([])}
          onSend={(files, isOne) => {
            add(files, instruction, isOne);
            setAsked([]);
          }}
        />
      )}
    </section>
  );
}

interface AskProps {
  files: File[];
  onClose: () => void;
  onSend: (files: File[], isOne: boolean) => void;
}

/** Asks whether several files are of one operation, and in which order. Only this page reads the names. */
function OneOrSeveral({ files, onClose, onSend }: AskProps) {
  const { upload, page } = words.value;
  const [isOne, setOne] = useState(true);
  const [order, setOrder] = useState(files);
  const move = (index: number, by: number) => {
    const moved = [...order];
    [moved[index], moved[index + by]] = [moved[index + by]!, moved[index]!];
    setOrder(moved);
  };
  return (
    <Dialog title={upload.oneTitle} onClose={onClose}>
      <fieldset class="one-or-several">
        <legend class="seen-by-readers">{upload.oneTitle}</legend>
        {[true, false].map((one) => (
          <label key={String(one)}>
            <input type="radio" name="one-or-several" checked={isOne === one} onChange={() => setOne(one)} />
            {one ? upload.one : upload.several}
          </label>
        ))}
      </fieldset>
      <ol class="order">
        {order.map((file, index) => (
          <li key={index}>
            <div class="row">
              <span title={file.name}>{file.name}</span>
              {isOne && (
                <>
                  <button
                    type="button"
                    class="plain small"
                    aria-label={upload.earlier(file.name)}
                    disabled={index === 0}
                    onClick={() => move(index, -1)}
                  >
                    ↑
                  </button>
                  <button
                    type="button"
                    class="plain small"
                    aria-label={upload.later(file.name)}
                    disabled={index === order.length - 1}
                    onClick={() => move(index, 1)}
                  >
                    ↓
                  </button>
                </>
              )}
            </div>
          </li>
        ))}
      </ol>
      <div class="row">
        <button type="button" onClick={() => onSend(order, isOne)}>
          {upload.start}
        </button>
        <button type="button" class="plain" onClick={onClose}>
          {page.cancel}
        </button>
      </div>
    </Dialog>
  );
}

/** Takes files that are dropped on the page: a browser would open a file that misses a small target. */
function useDrop(setOver: (isOver: boolean) => void, take: (files: File[]) => void): void {
  useEffect(() => {
    const over = (event: DragEvent) => {
      event.preventDefault();
      setOver(true);
    };
    const leave = () => setOver(false);
    const drop = (event: DragEvent) => {
      event.preventDefault();
      setOver(false);
      take([...(event.dataTransfer?.files ?? [])]);
    };
    addEventListener("dragover", over);
    addEventListener("dragleave", leave);
    addEventListener("drop", drop);
    return () => {
      removeEventListener("dragover", over);
      removeEventListener("dragleave", leave);
      removeEventListener("drop", drop);
    };
  });
}
