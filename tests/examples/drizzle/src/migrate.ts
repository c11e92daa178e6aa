// Brings the schema up to date, as a user of superuser_bypass: postgresql://postgres:…@127.0.0.1:6432/shop.
import { drizzle } from 'drizzle-orm/node-postgres'
import { migrate as run } from 'drizzle-orm/node-postgres/migrator'
import pg from 'pg'

export async function migrate(url: string): Promise<void> {
  const administrator = new pg.Client(url)
  await administrator.connect()
  try {
    await run(drizzle(administrator), { migrationsFolder: `${import.meta.dirname}/../migrations` })
  } finally {
    await administrator.end()
  }
}
