import { api } from "../api/client";
import { useAction } from "../components/action";
import { Trouble } from "../components/messages";
import { go, route, toCase } from "../router";
import { mayWrite } from "../session";
import { words } from "../words";

/** A site without a case: what to do first, and a sample to try it with. */
export function NoCaseYet() {
  const { home } = words.value;
  const action = useAction(async () => {
    const from = route.peek(); // drawing takes so long that the user may go elsewhere; the case is then in the library
    const made = await api<{ video_id: string }>("v1/sample-case", { method: "POST" });
    if (route.peek() === from) go(toCase(made.video_id));
  });
  return (
    <section class="card" aria-labelledby="empty">
      <h2 id="empty">{home.emptyTitle}</h2>
      <p>{home.empty}</p>
      <Trouble error={action.error} />
      {mayWrite.value && (
        <p class="row">
          <button type="button" disabled={action.busy} onClick={() => void action.run()}>
            {home.sample}
          </button>
          <span class="soft" role="status">
            {action.busy ? home.sampleComes : home.sampleMeans}
          </span>
        </p>
      )}
    </section>
  );
}
