// Socket.IO with its PostgreSQL adapter: what NOTIFY carries is emitted to every client of this node.
import { createServer } from "node:http";
import { createAdapter } from "@socket.io/postgres-adapter";
import pg from "pg";
import { Server } from "socket.io";

const [port, channel] = process.argv.slice(2);
const pool = new pg.Pool();
await pool.query(`
  create table if not exists socket_io_attachments (
    id bigserial unique, created_at timestamptz default now(), payload bytea)`);

const http = createServer();
const io = new Server(http, { adapter: createAdapter(pool), perMessageDeflate: false });
const database = new pg.Client();
await database.connect();
database.on("notification", ({ payload }) => io.local.emit("change", payload));
await database.query(`listen "${channel}"`);
http.listen({ host: "127.0.0.1", port: Number(port), backlog: 4096 });
