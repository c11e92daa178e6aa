// postgres.js through the proxy. Prints one line for each step.
const { Readable } = require('node:stream');
const { pipeline } = require('node:stream/promises');
const postgres = require('postgres');
const { host, port, database, password, tenant, sleep, running, rows, foreign, ok, same, sqlstate, version } = require('./steps.cjs');

const connect = (user) => postgres({ host, port, database, password, user, max: 1, connect_timeout: 30 });

async function main() {
  console.log('client', version('postgres'));
  const [acme, globex, own] = ['acme', 'globex', tenant].map((name) => connect(`app_user.${name}`));
  same([...(await acme.unsafe(rows))], [{ tenant_id: 'acme', n: 3 }]);
  same([...(await globex.unsafe(rows))], [{ tenant_id: 'globex', n: 2 }]);
  ok('isolation');

  same(await sqlstate(acme.unsafe(foreign)), '42501');
  same((await acme`UPDATE notes SET body = 'x' WHERE tenant_id = 'globex'`).count, 0);
  ok('foreign_write');

  same([...(await acme`SELECT ${"it's"}::text AS a, ${7}::int AS b`)], [{ a: "it's", b: 7 }]);
  ok('parameters');

  for (let number = 0; number < 5; number++) {
    same([...(await acme`SELECT ${number}::int + 1 AS n`)], [{ n: number + 1 }]);
  }
  same((await acme`SELECT name FROM pg_prepared_statements WHERE statement LIKE 'SELECT $1::int + 1%'`).length, 1);
  ok('prepared');

  const numbers = Array.from({ length: 200 }, (_, number) => number);
  const answers = await Promise.all(numbers.map((number) => acme`SELECT ${number}::int AS n, current_tenant_id() AS t`));
  same(answers.map(([row]) => row), numbers.map((n) => ({ n, t: 'acme' })));
  ok('pipeline');

  await own.begin((sql) => sql`INSERT INTO notes (body) VALUES ('kept')`);
  const lost = own.begin(async (sql) => {
    await sql`INSERT INTO notes (body) VALUES ('lost')`;
    throw new Error('given up');
  });
  same(await lost.catch((error) => error.message), 'given up');
  same([...(await own`SELECT body FROM notes`)], [{ body: 'kept' }]);
  ok('transaction');

  const lines = Array.from({ length: 1000 }, (_, number) => `${tenant} ${number}\n`);
  await pipeline(Readable.from(lines), await own`COPY uploads FROM STDIN`.writable());
  let copied = '';
  // Little: after a stream that filled its buffer, postgres.js may leave the socket paused for good, also without a proxy.
  const some = `SELECT body FROM uploads WHERE body LIKE '${tenant} %' LIMIT 100`;
  const source = await own.unsafe(`COPY (${some}) TO STDOUT`).readable();
  for await (const chunk of source) copied += chunk;
  same(copied.split('\n').length, 101);
  ok('copy');

  const query = own.unsafe(sleep);
  const cancelled = sqlstate(query);
  while ((await acme.unsafe(running))[0].n !== 1);
  await query.cancel();
  same(await cancelled, '57014');
  same([...(await own`SELECT current_tenant_id() AS t`)], [{ t: tenant }]);
  ok('cancel');

  await own.end();
  const again = connect(`app_user.${tenant}`);
  same([...(await again`SELECT current_tenant_id() AS t`)], [{ t: tenant }]);
  ok('reconnect');

  const nobody = connect('app_user');
  const refused = await nobody`SELECT 1`.then(() => undefined, (error) => error);
  same([refused.code, refused.message.startsWith('pgvpd: ')], ['28000', true]);
  ok('no_tenant');

  // It would ask the catalogs for types, which the console does not have.
  const administrator = postgres({ host, port, database: 'pgvpd', password, user: 'admin', max: 1, fetch_types: false });
  const lists = await administrator.unsafe('SHOW LISTS');
  same(Number(lists.find((row) => row.list === 'used_clients').items) >= 2, true);
  same((await administrator.unsafe('DISCONNECT TENANT $1', ['nobody'])).command, 'DISCONNECT');
  await administrator.end();
  ok('console');
  await Promise.all([acme, globex, again, nobody].map((sql) => sql.end({ timeout: 5 })));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
