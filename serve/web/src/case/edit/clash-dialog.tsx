import { useAction } from "../../components/action";
import { Dialog } from "../../components/dialog";
import { Trouble } from "../../components/messages";
import { clockTenths, words } from "../../words";
import type { Change, Mark, ModelRow } from "./changes";
import type { Clash, Layer } from "./layer";

/** Somebody else changed what I changed: both are shown, and one of them is chosen. Nothing is lost until then. */
export function ClashDialog({ clash, layer }: { clash: Clash; layer: Layer }) {
  const { edit: text } = words.value;
  const action = useAction((keepMine: boolean) => layer.settle(keepMine));
  return (
    <Dialog title={text.clash} onClose={() => {}}>
      <p>{text.clashHint}</p>
      <dl class="clash">
        <dt>{text.clashMine}</dt>
        {clash.mine.map((change) => (
          <dd key={change.span_id + change.op}>{wish(change)}</dd>
        ))}
        <dt>{text.clashTheirs}</dt>
        {clash.theirs.map((mark) => (
          <dd key={mark.span_id}>{word(mark)}</dd>
        ))}
        {clash.theirs.length === 0 && <dd>{text.clashGone}</dd>}
      </dl>
      <Trouble error={action.error} />
      <div class="row">
        <button type="button" class="plain" disabled={action.busy} onClick={() => void action.run(false)}>
          {text.keepTheirs}
        </button>
        <button type="button" disabled={action.busy} onClick={() => void action.run(true)}>
          {text.keepMine}
        </button>
      </div>
    </Dialog>
  );
}

const when = (row: ModelRow) => `${clockTenths(row.start_s)}–${clockTenths(row.stop_s)}`;

function wish(change: Change): string {
  const { edit: text } = words.value;
  if (change.op === "remove") return `${text.withdraw}: ${change.category}, ${when(change)}`;
  return `${change.op === "reject" ? text.not(change.category) : change.category}, ${when(change)}`;
}

function word(mark: Mark): string {
  const { edit: text } = words.value;
  const what = mark.state === "rejected" ? text.not(mark.category) : mark.category;
  return `${text.says(mark.author_name, what)}, ${when(mark)}`;
}
