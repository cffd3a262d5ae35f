import { useEffect } from "preact/hooks";

import { useAction } from "../components/action";
import { Loading, Trouble } from "../components/messages";
import { lead, toCase } from "../router";
import { linked, openLink, session } from "../session";
import { words } from "../words";

/**
 * Opens a read-only link: its session begins, and the address becomes that of the case, so that the secret stands in
 * the address no longer, nor in the history. Who is signed in is asked first, since the link takes the place of their session.
 */
export function Shared({ token }: { token: string }) {
  const { shared } = words.value;
  const name = session.value?.user ? session.value.name : null;
  const action = useAction(async () => {
    await openLink(token);
    const found = linked.value;
    if (found) lead(toCase(found.video_id, found.from_s ?? 0));
  });
  useEffect(() => {
    if (!name) void action.run();
  }, [token]);
  return (
    <section class="sheet card" aria-labelledby="shared-title">
      <h1 id="shared-title">{shared.title}</h1>
      <Trouble error={action.error} again={() => action.run()} />
      {name && !action.busy && (
        <>
          <p>{shared.signedIn(name)}</p>
          <button type="button" onClick={() => void action.run()}>
            {shared.open}
          </button>
        </>
      )}
      {action.busy && <Loading />}
    </section>
  );
}
