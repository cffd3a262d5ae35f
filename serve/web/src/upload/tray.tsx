import { told } from "../components/messages";
import "../components/plain-list.css";
import { percent, size, words } from "../words";
import { delivered, goOn, type Item, items, pause, remove } from "./queue";
import "./tray.css";

/** The files that are being sent, with how far they are, and buttons to pause each and to go on. One that has come leaves
 * it, which readers of the screen are told. */
export function Tray() {
  const { upload } = words.value;
  return (
    <>
      <p class="seen-by-readers" role="status">
        {delivered.value > 0 && upload.delivered(delivered.value)}
      </p>
      {items.value.length > 0 && (
        <section class="tray" aria-label={upload.tray}>
          <ul class="plain-list">
            {items.value.map((item) => (
              <Line key={item.id} item={item} />
            ))}
          </ul>
        </section>
      )}
    </>
  );
}

function Line({ item }: { item: Item }) {
  const { upload } = words.value;
  const { kind } = item.state.value;
  const name = item.file.name;
  const isIdle = kind === "paused" || kind === "failed";
  return (
    <li class="row">
      <div class="what">
        <b title={name}>{name}</b>
        <span class={kind === "failed" ? "failed" : "soft"} role={kind === "failed" ? "alert" : undefined}>
          {textOf(item)}
        </span>
      </div>
      {isIdle && (
        <button type="button" class="small" onClick={() => goOn(item)}>
          {kind === "failed" ? upload.again : upload.goOn}
        </button>
      )}
      {!isIdle && kind !== "sent" && (
        <button type="button" class="plain small" onClick={() => pause(item)}>
          {upload.pause}
        </button>
      )}
      <button type="button" class="plain small" aria-label={upload.removeOf(name)} onClick={() => remove(item)}>
        {upload.remove}
      </button>
      <progress max={1} value={item.share.value} aria-label={upload.progress(name)} />
    </li>
  );
}

function textOf(item: Item): string {
  const { upload, page } = words.value;
  const state = item.state.value;
  switch (state.kind) {
    case "waiting":
      return upload.waiting;
    case "reading":
      return upload.reading;
    case "sending": {
      const text = upload.sending(percent(state.share), size(item.file.size));
      return state.leftS === null ? text : `${text}, ${page.left(state.leftS)}`;
    }
    case "checking":
      return upload.checking;
    case "retrying":
      return upload.retry(state.inS);
    case "signed out":
      return upload.signedOut;
    case "grouping":
      return upload.grouping(item.batch.items.length);
    case "paused":
      return upload.paused;
    case "sent":
      return upload.sent;
    case "failed":
      return told(state.error);
  }
}
