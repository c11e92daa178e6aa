export { startPostgres, setup, withTenant, tenantUrl, adminUrl, assertIsolated } from './testing.cjs'
