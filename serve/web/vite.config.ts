import preact from "@preact/preset-vite";
import { defineConfig } from "vitest/config";

// The built files lie in the package: the service serves them, and nothing comes from another host.
export default defineConfig({
  base: "./",
  plugins: [preact()],
  build: {
    outDir: "../../halsted_ray/service/page",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0, // the Content-Security-Policy takes no data: address for scripts and styles
  },
  // `npm run dev` shows the page as it is being written, with the API of a service on port 8000.
  server: { proxy: { "/v1": "http://127.0.0.1:8000", "/session": "http://127.0.0.1:8000" } },
  test: { environment: "jsdom", include: ["src/**/*.test.{ts,tsx}"], setupFiles: ["src/testing/setup.ts"], css: { include: [/tokens\.css/] } },
});
