import { useState } from "preact/hooks";

import { api } from "../api/client";
import { useAction } from "../components/action";
import { Trouble } from "../components/messages";
import { Secret } from "../components/secret";
import { toHome } from "../router";
import { begin } from "../session";
import { words } from "../words";

/** The first administrator of a site, by the one-time link that the operator's terminal shows. */
export function Setup({ token }: { token: string }) {
  const { setup } = words.value;
  const [tenant, setTenant] = useState("");
  const [user, setUser] = useState("");
  const [key, setKey] = useState("");
  const action = useAction(async () => {
    const made = await api<{ key: string }>("session/setup", { method: "POST", json: { token, tenant, user } });
    setKey(made.key);
    await begin();
  });
  return (
    <section class="sheet card" aria-labelledby="setup-title">
      <h1 id="setup-title">{setup.title}</h1>
      <Trouble error={action.error} />
      {key ? (
        <>
          <p>{setup.done}</p>
          <Secret text={key} />
          <p>
            <a href={toHome}>{setup.goOn}</a>
          </p>
        </>
      ) : (
        <form
          onSubmit={(event) => {
            event.preventDefault();
            void action.run();
          }}
        >
          <div class="field">
            <label for="setup-tenant">{setup.tenant}</label>
            <input
              id="setup-tenant"
              required
              maxLength={63}
              pattern="[a-z0-9][a-z0-9\-]*"
              title={setup.tenantHint}
              aria-describedby="setup-tenant-hint"
              spellcheck={false}
              value={tenant}
              onInput={(event) => setTenant(event.currentTarget.value)}
            />
            <span id="setup-tenant-hint" class="soft">
              {setup.tenantHint}
            </span>
          </div>
          <div class="field">
            <label for="setup-user">{setup.user}</label>
            <input
              id="setup-user"
              required
              maxLength={64}
              autocomplete="username"
              spellcheck={false}
              value={user}
              onInput={(event) => setUser(event.currentTarget.value)}
            />
          </div>
          <button disabled={action.busy}>{setup.submit}</button>
        </form>
      )}
    </section>
  );
}
