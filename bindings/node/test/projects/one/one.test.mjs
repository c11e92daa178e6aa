import { test } from 'vitest'
import { assertIsolated } from 'pgvpd/testing'

test('the database is the one of this project', () => assertIsolated('table_of_one'))
