import { defineConfig } from 'prisma/config'

export default defineConfig({
  schema: 'prisma',
  migrations: { path: 'prisma/migrations' },
  // A user of superuser_bypass: postgresql://postgres:…@127.0.0.1:6432/shop. Only migrations use it.
  datasource: { url: process.env.DATABASE_URL ?? '' },
})
