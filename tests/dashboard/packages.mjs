// The packages of package.json, from where tests/dashboard.sh has installed them.
import { createRequire } from 'node:module'

const installed = createRequire(`${process.env.PGVPD_DASHBOARD_MODULES}/`)

export const { chromium } = installed('playwright-core')
export const pg = installed('pg')
export const axe = installed('axe-core')
