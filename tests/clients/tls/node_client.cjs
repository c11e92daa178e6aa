// Logs in once for each line `PORT USER WAY`, and prints one line each. The argument names the library.
const { readFileSync } = require('node:fs');

const [password, database] = [process.env.PGPASSWORD, process.env.PGDATABASE];
const ca = readFileSync(process.env.PGVPD_CA, 'utf8');
const sql = 'SELECT current_tenant_id() AS tenant';
const ssl = (way) => (way === 'disable' ? false : { ca, servername: 'localhost' });

const libraries = {
  async pg(port, user, way) {
    const { Client } = require('pg');
    const client = new Client({ host: 'localhost', port, user, password, database, ssl: ssl(way) });
    await client.connect();
    try {
      return (await client.query(sql)).rows[0].tenant;
    } finally {
      await client.end();
    }
  },
  async postgres(port, user, way) {
    const postgres = require('postgres');
    const client = postgres({ host: 'localhost', port, user, password, database, ssl: ssl(way), max: 1, backoff: false });
    try {
      return (await client.unsafe(sql))[0].tenant;
    } finally {
      await client.end({ timeout: 5 });
    }
  },
};

async function main() {
  const login = libraries[process.argv[2]];
  for (const line of readFileSync(0, 'utf8').trim().split('\n')) {
    const [port, user, way] = line.split(' ');
    try {
      console.log('ok', await login(Number(port), user, way));
    } catch (error) {
      console.log('error', `${error.message} ${error.hint ?? ''}`.replaceAll('\n', ' '));
    }
  }
}

main();
