import { model } from "../model";
import { words } from "../words";
import "./about-model.css";

/** The card of the model that is served. */
export function AboutModel() {
  if (!model.value) return null;
  return (
    <footer class="about-model">
      <details>
        <summary>{words.value.model.about}</summary>
        <pre>{model.value.card || words.value.model.noCard}</pre>
      </details>
    </footer>
  );
}
