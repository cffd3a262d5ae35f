import type { Words } from "../en";

export const comments: Words["comments"] = {
  title: "Kommentare",
  none: "Noch hat niemand etwas geschrieben.",
  goTo: (time) => `Zu ${time} gehen`,
  write: (time) => `Kommentar bei ${time}`,
  hint: "Alle, die diesen Fall ansehen dürfen, lesen ihn. Schreiben Sie keinen Namen, kein Geburtsdatum und keine Fallnummer.",
  add: "Kommentar hinzufügen",
  remove: "Löschen",
  removeOf: (who, time) => `Den Kommentar von ${who} bei ${time} löschen`,
  sure: (who, time) => `Löschen, was ${who} bei ${time} geschrieben hat? Es kann nicht zurückgeholt werden.`,
  warning: (what) => `Ihr Kommentar ist da. Sehen Sie ihn bitte noch einmal an und löschen Sie ihn, wenn er einen Patienten nennt: ${what}`,
};
