// ws and pg, as their manuals show it: what NOTIFY carries is sent to every client.
import pg from "pg";
import { WebSocketServer } from "ws";

const [port, channel] = process.argv.slice(2);
const database = new pg.Client();
await database.connect();

const server = new WebSocketServer({ host: "127.0.0.1", port: Number(port), backlog: 4096, perMessageDeflate: false });
database.on("notification", ({ payload }) => {
  const message = Buffer.from(payload);
  for (const client of server.clients) client.send(message, { binary: false });
});
await database.query(`listen "${channel}"`);
