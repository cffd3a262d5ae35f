import { model } from "../model";
import { words } from "../words";
import { CardText } from "./card-text";
import "./about-model.css";

/** The card of the model that is served. */
export function AboutModel() {
  if (!model.value) return null;
  return (
    <footer class="about-model">
      <details>
        <summary>{words.value.model.about}</summary>
        {model.value.card ? (
          <div lang="en">
            <CardText text={model.value.card} />
          </div>
        ) : (
          <p>{words.value.model.noCard}</p>
        )}
      </details>
    </footer>
  );
}
