// What the Node clients share: the connection's data, and how a step is checked.
const assert = require('node:assert/strict');
const { readFileSync } = require('node:fs');

const { PGHOST, PGPORT, PGDATABASE, PGPASSWORD, PGVPD_TENANT } = process.env;
const sleep = `SELECT pg_sleep(60) /* ${PGVPD_TENANT} */`;

module.exports = {
  host: PGHOST,
  port: Number(PGPORT),
  database: PGDATABASE,
  password: PGPASSWORD,
  tenant: PGVPD_TENANT,
  sleep,
  running: `SELECT count(*)::int AS n FROM pg_stat_activity WHERE state = 'active' AND query = '${sleep}'`,
  rows: 'SELECT DISTINCT tenant_id, count(*) OVER () ::int AS n FROM notes',
  foreign: "INSERT INTO notes (tenant_id, body) VALUES ('globex', 'x')",
  ok: (step) => console.log('ok', step),
  same: assert.deepEqual,
  // Of an installed package; not every one lets its package.json be required.
  version: (name) => JSON.parse(readFileSync(`${process.env.NODE_PATH}/${name}/package.json`)).version,
  // The SQLSTATE with which a promise is rejected.
  sqlstate: (promise) => promise.then(() => undefined, (error) => error.code),
};
