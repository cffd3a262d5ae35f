/** German: the first administrator, keys, roles without a case, the model, and the home view. */
import type { Words } from "../en";

export const setup: Words["setup"] = {
  title: "Die erste Verwaltung dieser Seite",
  tenant: "Klinik oder Abteilung, kurz",
  tenantHint: "Kleinbuchstaben, Ziffern und Striche, wie nord",
  user: "Ihr Benutzername",
  submit: "Einrichten",
  done: "Ihr Schlüssel wird nur jetzt gezeigt. Bewahren Sie ihn wie ein Passwort auf:",
  goOn: "Weiter zu den Fällen",
};

export const account: Words["account"] = {
  newKey: "Neuer Schlüssel",
  title: "Ein neuer Schlüssel",
  ends: (day) => `Ihr Schlüssel gilt bis ${day}.`,
  means: "Ein neuer Schlüssel tritt an seine Stelle. Der alte gilt noch einen Tag, damit Programme wechseln können.",
  make: "Neuen Schlüssel erstellen",
  made: "Er wird nur jetzt gezeigt. Bewahren Sie ihn wie ein Passwort auf:",
  noCases: "Ihre Rolle sieht keinen Fall.",
  roles: { admin: "Verwaltung", surgeon: "Chirurgie", trainee: "in Ausbildung", reviewer: "beurteilend", annotator: "beschriftend", auditor: "Revision", monitor: "Überwachung" },
  forPrograms: "Was sie lesen darf, ist für Programme: siehe",
  apiDocs: "die Beschreibung des Dienstes",
};

export const model: Words["model"] = {
  about: "Über das Modell: was es gelernt hat und wofür es nicht ist",
  noCard: "Das Modell hat keine Beschreibung.",
  tasks: {
    macro: "Eingriff und Schritte",
    micro: "Präparation",
    proficiency: "Nähen",
    context: "Nadelführung",
  },
  instructions: {
    "map procedure type": "Eingriff und Schritte",
    "map dissection activity": "Präparation",
    "map suturing activity": "Nähen",
    "map needle driving activity": "Nadelführung",
  },
};

export const home: Words["home"] = {
  title: "Start",
  days: (days) => `Die letzten ${days} Tage`,
  cases: "Fälle",
  hours: "Stunden Video",
  stitches: "Stiche",
  tiles: {
    cases: (n) => (n === 1 ? "Fall" : "Fälle"),
    hours: "Stunden Video",
    minutes: (n) => (n === 1 ? "Minute Video" : "Minuten Video"),
    stitches: (n) => (n === 1 ? "Stich" : "Stiche"),
  },
  high: "Stiche von hoher Güte",
  between: (low, high, n) => `95-%-Intervall ${low} bis ${high}, aus ${n} ${n === "1" ? "Stich" : "Stichen"}`,
  noProficiency: "In dieser Zeit wurde kein Stich beurteilt.",
  versions: (names) => `Modell ${names}`,
  phases: "Mittlere Dauer (Median) je Phase eines Stichs",
  phase: "Phase",
  median: "Median",
  count: "Anzahl",
  seconds: (value) => `${value} s`,
  trend: "Von Woche zu Woche",
  trendOf: "Gezeigt",
  trendText: (what, weeks) => `${what} von Woche zu Woche: ${weeks}`,
  trendTable: "Als Tabelle",
  week: "Woche vom",
  moments: "Einen Blick wert",
  why: {
    "least sure": "Hier ist das Modell am unsichersten",
    longest: "Am längsten",
    "unlike the others": "Anders als die anderen",
  },
  watch: "Ansehen",
  jobs: "In Arbeit",
  jobOf: (name) => `Karte von ${name}`,
  cleaningOf: (name) => `Bereinigung von ${name}`,
  emptyTitle: "Es gibt noch keinen Fall",
  empty: "Fügen Sie das Video einer Operation hinzu. Der Dienst bereinigt es so, wie Ihre Einrichtung es festgelegt hat, und erstellt dann die Karte: Schritte, Instrumente, Stiche.",
  sample: "Mit einem Beispielfall ausprobieren",
  sampleMeans: "Das Beispiel ist eine gezeichnete Operation von einer Minute. Es zeigt keinen Patienten.",
  sampleComes: "Das Beispiel wird gezeichnet. Sein Fall öffnet sich von selbst, innerhalb einer Minute.",
  none: (days) => `In den letzten ${days} Tagen kam kein Fall dazu.`,
  toLibrary: "Alle Fälle",
};
