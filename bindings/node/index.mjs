export { Proxy, PgvpdError, ConfigError } from './index.cjs'
