import { useState } from "preact/hooks";

import { api } from "../api/client";
import { session } from "../session";
import { date, words } from "../words";
import { useAction } from "./action";
import { Dialog } from "./dialog";
import { Trouble } from "./messages";
import { Secret } from "./secret";

/** A new key in place of the old one. Who signed in at the hospital's identity provider has no key. */
export function NewKey() {
  const [isOpen, setOpen] = useState(false);
  const { account } = words.value;
  if (!session.value?.key_id) return null;
  return (
    <>
      <button type="button" class="plain small" onClick={() => setOpen(true)}>
        {account.newKey}
      </button>
      {isOpen && <KeyDialog keyId={session.value.key_id} onClose={() => setOpen(false)} />}
    </>
  );
}

function KeyDialog({ keyId, onClose }: { keyId: string; onClose: () => void }) {
  const { account, page } = words.value;
  const [key, setKey] = useState("");
  const action = useAction(async () => {
    setKey((await api<{ key: string }>(`v1/keys/${keyId}:rotate`, { method: "POST" })).key);
  });
  const endsS = session.value?.key_expires_s;
  return (
    <Dialog title={account.title} onClose={onClose}>
      <Trouble error={action.error} />
      {key ? (
        <>
          <p>{account.made}</p>
          <Secret text={key} />
        </>
      ) : (
        <p>
          {endsS && `${account.ends(date(endsS))} `}
          {account.means}
        </p>
      )}
      <div class="row">
        {!key && (
          <button type="button" disabled={action.busy} onClick={() => void action.run()}>
            {account.make}
          </button>
        )}
        <button type="button" class="plain" onClick={onClose}>
          {page.close}
        </button>
      </div>
    </Dialog>
  );
}
