/** SHA-256 of data. Null where the browser has none: over plain HTTP it has one only for a service on this machine. */
export async function sha256(data: ArrayBuffer): Promise<Uint8Array | null> {
  return crypto.subtle ? new Uint8Array(await crypto.subtle.digest("SHA-256", new Uint8Array(data))) : null;
}

export const hex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
export const base64 = (bytes: Uint8Array): string => btoa(String.fromCharCode(...bytes));
