// Runs the migrations that were not run yet, as `prisma migrate deploy` would, and keeps the same record of them. For
// where Prisma's schema engine is not: it is a download of its own, of which npm knows nothing.
import { createHash, randomUUID } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import pg from 'pg'

const folder = `${import.meta.dirname}/../prisma/migrations`

/** `url` is of a user of superuser_bypass: postgresql://postgres:…@127.0.0.1:6432/shop. */
export async function migrate(url: string): Promise<void> {
  const administrator = new pg.Client(url)
  await administrator.connect()
  try {
    // The lock that Prisma takes, until the end of the session.
    await administrator.query('SELECT pg_advisory_lock(72707369)')
    await administrator.query(record)
    const { rows } = await administrator.query<{ name: string }>(
      'SELECT migration_name AS name FROM _prisma_migrations WHERE finished_at IS NOT NULL AND rolled_back_at IS NULL',
    )
    const done = new Set(rows.map(({ name }) => name))
    const entries = await readdir(folder, { withFileTypes: true })
    const names = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name)
    for (const name of names.sort()) if (!done.has(name)) await run(administrator, name)
  } finally {
    await administrator.end()
  }
}

/** Runs one, all of it or nothing. */
async function run(administrator: pg.Client, name: string): Promise<void> {
  const statements = await readFile(`${folder}/${name}/migration.sql`, 'utf8')
  const checksum = createHash('sha256').update(statements).digest('hex')
  await administrator.query('BEGIN')
  await administrator.query(statements)
  const values = [randomUUID(), checksum, name]
  await administrator.query(
    `INSERT INTO _prisma_migrations (id, checksum, migration_name, finished_at, applied_steps_count)
     VALUES ($1, $2, $3, now(), 1)`,
    values,
  )
  await administrator.query('COMMIT')
}

const record = `CREATE TABLE IF NOT EXISTS _prisma_migrations (
  id                  varchar(36) PRIMARY KEY,
  checksum            varchar(64) NOT NULL,
  finished_at         timestamptz,
  migration_name      varchar(255) NOT NULL,
  logs                text,
  rolled_back_at      timestamptz,
  started_at          timestamptz NOT NULL DEFAULT now(),
  applied_steps_count integer NOT NULL DEFAULT 0
)`
