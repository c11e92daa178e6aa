import { testGuide } from '../../guide.ts'

testGuide('drizzle-integration.md', `${import.meta.dirname}/..`)
