import { useRef, useState } from "preact/hooks";

import { ApiError, api } from "../api/client";
import { useAction } from "../components/action";
import { Choice } from "../components/choice";
import { Trouble } from "../components/messages";
import { words } from "../words";

interface User {
  user: string;
  name: string;
}

const MOST_FOUND = 50;
const LONGEST_NAME = 64;

/** Shares a case with a person of the site, who is found by any part of the name. */
export function ShareForm({ videoId, reload }: { videoId: string; reload: () => Promise<void> }) {
  const { people: text } = words.value;
  const [name, setName] = useState("");
  const [relation, setRelation] = useState("trainee");
  const [days, setDays] = useState("30");
  const search = usePeople();
  const action = useAction(async () => {
    const user = await search.userOf(name.trim());
    const json = { user, relation, days: Number(days) };
    await api(`v1/videos/${videoId}/shares`, { method: "POST", json });
    setName("");
    await reload();
  });
  return (
    <form
      class="row"
      aria-label={text.share}
      onSubmit={(event) => {
        event.preventDefault();
        void action.run();
      }}
    >
      <Trouble error={action.error} />
      <div class="field">
        <label for="share-user">{text.shareWith}</label>
        <input
          id="share-user"
          list="share-users"
          required
          maxLength={100}
          autocomplete="off"
          spellcheck={false}
          value={name}
          onFocus={() => void search.suggest(name)}
          onInput={(event) => {
            setName(event.currentTarget.value);
            void search.suggest(event.currentTarget.value);
          }}
        />
        <datalist id="share-users">
          {search.names.map((one) => (
            <option key={one} value={one} />
          ))}
        </datalist>
      </div>
      <Choice id="share-relation" label={text.shareAs} value={relation} onChange={setRelation} options={relationsOf()} />
      <Choice id="share-days" label={text.shareFor} value={days} onChange={setDays} options={text.periods} />
      <button disabled={action.busy}>{text.share}</button>
      <p class="soft">{text.shareMeans}</p>
    </form>
  );
}

/** The commonest comes first. */
function relationsOf(): [string, string][] {
  const { relations } = words.value.people;
  return ["trainee", "reviewer", "annotator", "surgeon"].map((one) => [one, relations[one] ?? one]);
}

/** The people of the site whose name holds a text. Two of one name are told apart by their user names. */
function usePeople() {
  const [names, setNames] = useState<string[]>([]);
  const found = useRef(new Map<string, string>());
  const asked = useRef(0);
  async function find(text: string): Promise<string[]> {
    const users = await api<User[]>(`v1/users?limit=${MOST_FOUND}&find=${encodeURIComponent(text)}`);
    const isOnly = (one: User) => users.filter((other) => other.name === one.name).length === 1;
    return users.map((one) => {
      const read = isOnly(one) ? one.name : `${one.name} (${one.user})`;
      found.current.set(read, one.user);
      return read;
    });
  }
  return {
    names,
    suggest: async (text: string) => {
      const number = ++asked.current;
      const names = await find(text).catch(() => []); // whoever writes a whole name needs no suggestion
      if (number === asked.current) setNames(names);
    },
    /** The user whom a text means: one who was found, else a user of exactly this user name. */
    userOf: async (text: string): Promise<string> => {
      if (!found.current.has(text)) await find(text);
      if (!found.current.has(text) && text.length > LONGEST_NAME) throw new ApiError(422, words.value.people.nobody);
      return found.current.get(text) ?? text;
    },
  };
}
