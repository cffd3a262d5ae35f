import { useState } from "preact/hooks";

import { useAction } from "../components/action";
import { Trouble } from "../components/messages";
import { linkHasEnded, session, signIn, wasSignedOut } from "../session";
import { words } from "../words";

/** The hospital's sign-in first, where the site has one; a key is another way. */
export function SignIn({ refused }: { refused: boolean }) {
  const { signIn: text } = words.value;
  const [key, setKey] = useState("");
  const action = useAction(async () => {
    await signIn(key);
  });
  const hasProvider = Boolean(session.value?.sign_on);
  const form = (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        void action.run();
      }}
    >
      <div class="field">
        <label for="key">{text.key}</label>
        <input
          id="key"
          type="password"
          autocomplete="current-password"
          required
          aria-describedby="key-hint"
          maxLength={200}
          spellcheck={false}
          value={key}
          onInput={(event) => setKey(event.currentTarget.value)}
        />
        <p id="key-hint" class="soft">
          {text.keyHint.split("`").map((part, n) => (n % 2 ? <code key={n}>{part}</code> : part))}
        </p>
      </div>
      <button disabled={action.busy}>{text.submit}</button>
    </form>
  );
  return (
    <section class="sheet card" aria-labelledby="sign-in-title">
      <h1 id="sign-in-title">{text.title}</h1>
      <p>{text.what}</p>
      {wasSignedOut.value && <p class="notice warn" role="status">{text.signedOut}</p>}
      {linkHasEnded.value && <p class="notice warn" role="status">{words.value.shared.none}</p>}
      {refused && <p class="notice bad" role="alert">{text.refused}</p>}
      <Trouble error={action.error} />
      {hasProvider ? (
        <>
          <p>
            <a href="session/sign-on">{text.hospital}</a>
          </p>
          <details>
            <summary>{text.other}</summary>
            {form}
          </details>
        </>
      ) : (
        form
      )}
    </section>
  );
}
