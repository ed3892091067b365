// Starts an independent emulator of Gmail and of Google's OAuth for one test run.
//
//   node launch.mjs '{"users":[…],"oauth_clients":[…]}'
//
// It listens on a free port of 127.0.0.1 and prints the port as its first line.
// Each line on standard input is a redirect address that is registered for every
// OAuth client; it answers with the line "ok". When standard input ends, so does
// the process: whoever started it is gone.
import { webcrypto } from "node:crypto";
import { createInterface } from "node:readline";

globalThis.crypto ??= webcrypto; // Node 18 has it, but not under this name

const { createServer, serve } = await import("@emulators/core");
const { getGoogleStore, googlePlugin, seedFromConfig } = await import("@emulators/google");

// Without fallbackUser a token that nobody was given is refused; with it every
// token opens the first account.
const { app, store, baseUrl } = createServer(googlePlugin, { baseUrl: "http://127.0.0.1" });
seedFromConfig(store, baseUrl, JSON.parse(process.argv[2]));

const server = serve({ fetch: app.fetch, hostname: "127.0.0.1", port: 0 });
server.keepAliveTimeout = 0; // a connection that ends while it is taken up again looks like a fault
server.on("listening", () => console.log(server.address().port));

createInterface({ input: process.stdin })
  .on("line", (redirect) => {
    for (const client of getGoogleStore(store).oauthClients.all()) client.redirect_uris.push(redirect);
    console.log("ok");
  })
  .on("close", () => process.exit(0));
