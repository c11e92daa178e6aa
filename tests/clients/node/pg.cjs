// node-postgres through the proxy. Prints one line for each step.
const { Readable } = require('node:stream');
const { pipeline } = require('node:stream/promises');
const pg = require('pg');
const copy = require('pg-copy-streams');
const { host, port, database, password, tenant, sleep, running, rows, foreign, ok, same, sqlstate, version } = require('./steps.cjs');

const settings = (user) => ({ host, port, database, password, user, connectionTimeoutMillis: 30000 });

async function connect(user) {
  const client = new pg.Client(settings(user));
  await client.connect();
  return client;
}

async function main() {
  console.log('client', version('pg'));
  const [acme, globex, own] = await Promise.all(['acme', 'globex', tenant].map((name) => connect(`app_user.${name}`)));
  same((await acme.query(rows)).rows, [{ tenant_id: 'acme', n: 3 }]);
  same((await globex.query(rows)).rows, [{ tenant_id: 'globex', n: 2 }]);
  ok('isolation');

  same(await sqlstate(acme.query(foreign)), '42501');
  same((await acme.query("UPDATE notes SET body = 'x' WHERE tenant_id = 'globex'")).rowCount, 0);
  ok('foreign_write');

  same((await acme.query('SELECT $1::text AS a, $2::int AS b', ["it's", 7])).rows, [{ a: "it's", b: 7 }]);
  ok('parameters');

  for (let number = 0; number < 5; number++) {
    const found = await acme.query({ name: 'one', text: 'SELECT $1::int + 1 AS n', values: [number] });
    same(found.rows, [{ n: number + 1 }]);
  }
  same((await acme.query('SELECT name FROM pg_prepared_statements')).rows, [{ name: 'one' }]);
  ok('prepared');

  const ahead = new pg.Client({ ...settings('app_user.acme'), pipeline: true });
  await ahead.connect();
  const numbers = Array.from({ length: 200 }, (_, number) => number);
  const send = (number) => ahead.query('SELECT $1::int AS n, current_tenant_id() AS t', [number]);
  const answers = await Promise.all(numbers.map(send));
  same(answers.map(({ rows: [row] }) => row), numbers.map((n) => ({ n, t: 'acme' })));
  await ahead.end();
  ok('pipeline');

  for (const [body, end] of [['kept', 'COMMIT'], ['lost', 'ROLLBACK']]) {
    await own.query('BEGIN');
    await own.query('INSERT INTO notes (body) VALUES ($1)', [body]);
    await own.query(end);
  }
  same((await own.query('SELECT body FROM notes')).rows, [{ body: 'kept' }]);
  ok('transaction');

  const lines = Array.from({ length: 1000 }, (_, number) => `${tenant} ${number}\n`);
  await pipeline(Readable.from(lines), own.query(copy.from('COPY uploads FROM STDIN')));
  let copied = '';
  for await (const chunk of own.query(copy.to(`COPY (SELECT body FROM uploads WHERE body LIKE '${tenant} %') TO STDOUT`))) {
    copied += chunk;
  }
  same(copied.split('\n').length, 1001);
  ok('copy');

  const query = new pg.Query(sleep);
  const cancelled = new Promise((resolve, reject) => {
    query.on('error', (error) => resolve(error.code));
    query.on('end', () => reject(new Error('the query was not cancelled')));
  });
  own.query(query);
  while ((await acme.query(running)).rows[0].n !== 1);
  new pg.Client(settings(`app_user.${tenant}`)).cancel(own, query);
  same(await cancelled, '57014');
  same((await own.query('SELECT current_tenant_id() AS t')).rows, [{ t: tenant }]);
  ok('cancel');

  await own.end();
  const again = await connect(`app_user.${tenant}`);
  same((await again.query('SELECT current_tenant_id() AS t')).rows, [{ t: tenant }]);
  ok('reconnect');

  const refused = await connect('app_user').then(() => undefined, (error) => error);
  same([refused.code, refused.message.startsWith('pgvpd: ')], ['28000', true]);
  ok('no_tenant');

  const administrator = new pg.Client({ ...settings('admin'), database: 'pgvpd' });
  await administrator.connect();
  const lists = await administrator.query({ name: 'lists', text: 'SHOW LISTS' });
  same(Number(lists.rows.find((row) => row.list === 'used_clients').items) >= 2, true);
  same((await administrator.query('DISCONNECT TENANT $1', ['nobody'])).command, 'DISCONNECT');
  await administrator.end();
  ok('console');
  await Promise.all([acme, globex, again].map((client) => client.end()));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
