/** Names for what the service answers. The shapes themselves are generated from its OpenAPI description. */
import type { components } from "./schema";

type Schemas = components["schemas"];

export type Session = Schemas["SignedIn"];
export type Video = Schemas["VideoShown"];
export type Job = Schemas["JobShown"];
export type People = Schemas["PeopleShown"];
export type Share = Schemas["ShareShown"];
export type Upload = Schemas["UploadShown"];

/** A row of a timeline. `source`: ai, gap, unknown or manual. */
export interface Row {
  tag: string;
  category: string;
  start_s: number;
  end_s: number;
  confidence: number;
  source: string;
}

export interface Timeline {
  video_id: string;
  rows: Row[];
}
