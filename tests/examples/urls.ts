// URLs that an application's configuration would hold, made from those of pgvpd/testing.
import { adminUrl, tenantUrl } from 'pgvpd/testing'

/** The proxy's URL for the role alone; the application adds the tenant. */
export function roleUrl(): string {
  const url = new URL(tenantUrl('tenant'))
  url.username = url.username.replace('.tenant', '')
  return url.href
}

/** A superuser's URL through the proxy: superuser_bypass lets postgres in, without a tenant. */
export function administratorUrl(): string {
  const url = new URL(adminUrl())
  url.host = new URL(tenantUrl('tenant')).host
  return url.href
}
