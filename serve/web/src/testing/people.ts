/** Sessions for tests of components. */
import { useToken } from "../api/client";
import { session, wasSignedOut } from "../session";

export function signedIn(user = "ada", role = "surgeon"): void {
  useToken("t");
  wasSignedOut.value = false;
  session.value = { user, name: user, role, tenant: "north", csrf: "t", sign_on: false, key_id: null, key_expires_s: null };
}

export function signedOut(byItself: boolean): void {
  wasSignedOut.value = byItself;
  session.value = { user: null, name: null, role: null, tenant: null, csrf: null, sign_on: false, key_id: null, key_expires_s: null };
}
