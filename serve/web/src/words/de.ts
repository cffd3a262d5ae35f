/** German. */
import { comments } from "./de/comments";
import { edit } from "./de/edit";
import { compare } from "./de/compare";
import { failures, looksLike, refusals } from "./de/refusals";
import { mine } from "./de/mine";
import { review } from "./de/review";
import { files } from "./de/files";
import { summary } from "./de/summary";
import { suturing } from "./de/suturing";
import { library, upload } from "./de/library";
import { about, people, share, shared } from "./de/sharing";
import { account, home, model, setup } from "./de/start";
import { sentence, type Words } from "./en";

export const de: Words = {
  page: {
    title: "Halsted",
    home: "Start",
    library: "Bibliothek",
    signOut: "Abmelden",
    language: "Sprache",
    about: "Über diese Software",
    menu: "Menü",
    skip: "Zum Inhalt springen",
    research: (version) =>
      `Forschungssoftware, kein Medizinprodukt. Das Modell macht Fehler und sagt, wie sicher es ist. Modell ${version}.`,
    researchOnly: "Forschungssoftware, kein Medizinprodukt. Das Modell macht Fehler und sagt, wie sicher es ist.",
    loading: "Wird geladen …",
    again: "Noch einmal versuchen",
    close: "Schließen",
    cancel: "Abbrechen",
    left: (seconds) => (seconds > 90 ? `noch ${Math.round(seconds / 60)} min` : `noch ${Math.ceil(seconds)} s`),
  },
  signIn: {
    title: "Anmelden",
    what: "Halsted kartiert Videos von Operationen: was wann geschieht und wie sicher das Modell ist.",
    hospital: "Mit dem Konto Ihrer Klinik anmelden",
    other: "Andere Wege, sich anzumelden",
    key: "Ihr Schlüssel",
    keyHint: "Ihre Verwaltung erstellt den Schlüssel mit dem Befehl `halsted serve key` und gibt ihn Ihnen einmal. Haben Sie ihn verloren, bitten Sie um einen neuen.",
    submit: "Anmelden",
    signedOut: "Sie wurden abgemeldet, weil eine Weile nichts geschah. Melden Sie sich wieder an; ein Upload läuft dann weiter.",
    refused: "Das Konto Ihrer Klinik wurde abgelehnt. Bitten Sie den Betreiber dieser Seite um Zugang.",
  },
  errors: {
    away: "Der Dienst antwortet nicht. Ihre Arbeit hier bleibt erhalten; die Seite versucht es von selbst wieder.",
    busy: "Der Dienst hat gerade viel zu tun. Warten Sie einen Moment und versuchen Sie es noch einmal.",
    missing: "Dieser Fall ist nicht da. Er wurde gelöscht oder ist nicht mit Ihnen geteilt.",
    forbidden: "Das dürfen Sie nicht. Fragen Sie die Person, der der Fall gehört, oder die Verwaltung Ihrer Seite.",
    full: "Auf dieser Seite ist kein Platz mehr. Löschen Sie einen Fall oder bitten Sie die Verwaltung um Platz.",
    other: (detail) => (detail ? sentence(detail) : "Der Dienst konnte das nicht tun. Versuchen Sie es noch einmal; sonst melden Sie es dem Betreiber."),
  },
  refusals,
  failures,
  looksLike,
  compare,
  review,
  edit,
  files,
  summary,
  suturing,
  comments,
  setup,
  account,
  model,
  home,
  mine,
  library,
  upload,
  about,
  people,
  share,
  shared,
};
