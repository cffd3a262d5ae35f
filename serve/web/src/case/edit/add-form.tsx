import type { RefObject } from "preact";
import { useState } from "preact/hooks";

import { clockTenths, words } from "../../words";
import { laneName } from "../describe";
import type { Player, Selection } from "../interfaces";
import type { TagKnown } from "../lanes";
import { CategoryMenu } from "./category-menu";
import { DeedButton } from "./deed-button";
import { type Editor, stretch } from "./editor";

/** Adds what the model has not seen, in any lane that the model knows. */
export function AddForm({ form, editor, known, player, selection }: {
  form: RefObject<HTMLFormElement | null>;
  editor: Editor;
  known: TagKnown[];
  player: Player;
  selection: Selection;
}) {
  const { edit: text } = words.value;
  const [chosenTag, setTag] = useState<string | null>(null);
  const [chosen, setChosen] = useState<string | null>(null);
  const tags = known.length ? known : editor.lanes.filter((lane) => lane.categories.length > 0);
  const tag = tags.find((one) => one.tag === (chosenTag ?? editor.span?.tag)) ?? tags[0];
  if (!tag) return null;
  const category = chosen !== null && tag.categories.includes(chosen) ? chosen : (tag.categories[0] ?? "");
  return (
    <form
      ref={form}
      class="part"
      aria-labelledby="add-title"
      onSubmit={(event) => {
        event.preventDefault();
        editor.add(tag.tag, category);
      }}
    >
      <h3 id="add-title">{text.addTitle}</h3>
      <Where player={player} selection={selection} />
      <div class="row fields">
        <div class="field">
          <label for="add-lane">{text.lane}</label>
          <select id="add-lane" value={tag.tag} onChange={(event) => setTag(event.currentTarget.value)}>
            {tags.map((one) => (
              <option key={one.tag} value={one.tag}>
                {laneName(one.tag)}
              </option>
            ))}
          </select>
        </div>
        <CategoryMenu key={tag.tag} label={text.category} value={category} categories={tag.categories} onChange={setChosen} />
      </div>
      <DeedButton keyName="N" submits>
        {text.add}
      </DeedButton>
    </form>
  );
}

/** Alone, since it is drawn again with every frame where nothing is marked. */
function Where({ player, selection }: { player: Player; selection: Selection }) {
  const { edit: text } = words.value;
  const [startS, stopS] = stretch(player, selection);
  const isMarked = selection.range.value ?? player.loop.value;
  const say = isMarked ? text.addHint : text.addHere;
  return (
    <p class="soft numbers">
      {!isMarked && `${text.addNothing} `}
      {say(clockTenths(startS), clockTenths(stopS))}
    </p>
  );
}
