import { testGuide } from '../../guide.ts'

testGuide('prisma.md', `${import.meta.dirname}/..`)
